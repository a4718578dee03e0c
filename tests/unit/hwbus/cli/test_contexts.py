"""Which control plane is meant: a flag, the environment, the current context, the default."""

from tests.support.cli import Stage


def test_the_default_is_a_broker_on_this_machine(stage: Stage) -> None:
    stage.run("node", "ls")
    assert stage.servers == ["nats://127.0.0.1:4222"]


def test_the_current_context_comes_before_the_default(stage: Stage) -> None:
    stage.run("context", "add", "work", "nats://work:4222")
    stage.run("node", "ls")
    assert stage.servers == ["nats://work:4222"]


def test_the_environment_comes_before_the_context_and_the_flag_before_both(stage: Stage) -> None:
    env = {"HWBUS_SERVER": "nats://env:4222"}
    stage.run("context", "add", "work", "nats://work:4222")
    stage.run("node", "ls", env=env)
    stage.run("node", "ls", "--server", "nats://flag:4222", env=env)
    assert stage.servers == ["nats://env:4222", "nats://flag:4222"]


def test_the_last_one_added_is_current_until_another_is_used(stage: Stage) -> None:
    stage.run("context", "add", "a", "nats://a:4222")
    stage.run("context", "add", "b", "nats://b:4222")
    stage.run("context", "use", "a")
    listed = stage.run("context", "ls", "-o", "json").json["items"]
    assert [(c["name"], c["current"]) for c in listed] == [("a", True), ("b", False)]


def test_a_forgotten_context_is_meant_no_more(stage: Stage) -> None:
    stage.run("context", "add", "a", "nats://a:4222")
    assert stage.run("context", "rm", "a").code == 0
    stage.run("node", "ls")
    assert stage.servers == ["nats://127.0.0.1:4222"]


def test_xdg_says_where_contexts_are_kept(stage: Stage) -> None:
    env = {"XDG_CONFIG_HOME": str(stage.home / "conf")}
    stage.run("context", "add", "a", 'nats://a:4222"\n', env=env)
    assert (stage.home / "conf" / "hwbus" / "contexts" / "a.toml").exists()
    stage.run("node", "ls", env=env)
    assert stage.servers == ['nats://a:4222"\n']


def test_a_spoilt_context_is_named(stage: Stage) -> None:
    stage.run("context", "add", "a", "nats://a:4222")
    path = stage.home / ".config" / "hwbus" / "contexts" / "a.toml"
    path.write_text("server = 5")
    done = stage.run("node", "ls")
    assert done.code == 2
    assert str(path) in done.err


def test_a_name_cannot_lead_out_of_the_directory(stage: Stage) -> None:
    assert stage.run("context", "add", "../x", "nats://a:4222").code == 2


def test_options_may_stand_before_the_command(stage: Stage) -> None:
    stage.run("--server", "nats://flag:4222", "-o", "json", "vol", "ls")
    assert stage.servers == ["nats://flag:4222"]

#!/bin/sh
# First process of a node. Builds the node's private, writable root on top of the host's
# read-only one, brings up its networks and hands over to the agent.
# The kernel passes NODE_SETTINGS, the path of a file of shell variables, in the environment.
# If this fails the kernel panics, which ends the node.
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export DM_DISABLE_UDEV=1                # no udevd here: device mapper makes its own device nodes
. "$NODE_SETTINGS"
modules=/usr/lib/uml/modules/$(uname -r)

insmod "$modules/kernel/fs/overlayfs/overlay.ko"
mount -t ext4 "$NODE_ROOT" /mnt         # the node's root disk: all it ever writes outside its data disks
mkdir -p /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mkdir -p .host
pivot_root . .host
mount --move /.host/dev /dev

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup /sys/fs/cgroup
# Some 570 terminals that nobody uses; each LVM tool would look at every one of them, for 30 ms.
rm -f /dev/[pt]ty[p-za-e][0-9a-f] /dev/tty[1-9]*
mkdir -p /dev/pts /dev/shm /run/lock /lib/modules /share
mount -t hostfs hostfs /share -o "$NODE_SHARE"
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -sfn /proc/self/fd /dev/fd
ln -sfn "$modules" "/lib/modules/$(uname -r)"
echo "+io +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control

mkdir -p /etc/lvm
cp "$NODE_GUEST/lvm.conf" /etc/lvm/lvm.conf
rm -rf /etc/lvm/lvmlocal.conf /etc/lvm/devices      # the host's own, seen through the overlay

echo "$NODE_MACHINE_ID" > /etc/machine-id           # else every node would be the host
echo "$NODE_NAME" > /etc/hostname
hostname "$NODE_NAME"
ip link set lo up
for link in $NODE_LINKS; do             # DEVICE:NAME:ADDRESS/PREFIX
    IFS=: read -r device name address <<LINK
$link
LINK
    ip link set "$device" name "$name"
    ip address add "$address" dev "$name"
    ip link set "$name" up
done

# This shell adopts the processes that lose their parent; waiting reaps them.
"$NODE_PYTHON" -I -S "$NODE_GUEST/agent.py" $NODE_HOST &
agent=$!
while kill -0 $agent 2>/dev/null; do wait $agent || true; done
sync
echo o > /proc/sysrq-trigger            # power off
sleep 60

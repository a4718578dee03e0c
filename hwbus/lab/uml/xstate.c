/* Lets Debian's User Mode Linux 6.1 run on processors with AMX.
 *
 * It keeps a process's extended registers in a buffer made for processors up to AVX-512 and PKRU.
 * Reading a longer set into it works: Linux cuts it off. Writing it back is refused by Linux with
 * EFAULT, since PTRACE_SETREGSET takes the whole set or nothing (xstateregs_set in
 * arch/x86/kernel/fpu/regset.c), and the kernel panics at its first process. Here the missing end
 * is added: the tile registers, in their initial state, which the header in front says as well,
 * since nobody in a node was given leave to use them.
 *
 * Preloaded into linux.uml, in the place of glibc's ptrace. Includes nothing, so that a compiler
 * is enough to build it.
 */

enum { PEEK_TEXT = 1, PEEK_DATA = 2, PEEK_USER = 3, GET_SET = 0x4204, SET_SET = 0x4205 };
enum { XSTATE = 0x202, EFAULT_ = 14, PTRACE = 101, LARGEST = 1 << 16 };

struct piece {
	void *base;
	unsigned long length;
};

extern int *__errno_location(void);
extern void *memcpy(void *, const void *, unsigned long);

static unsigned char whole[LARGEST] __attribute__((aligned(64)));
static unsigned long whole_length; /* 0: not known to be longer than what we are given */

static long ask(long request, long pid, void *address, void *data)
{
	register void *fourth __asm__("r10") = data;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"((long)PTRACE), "D"(request), "S"(pid), "d"(address), "r"(fourth)
			 : "rcx", "r11", "memory");
	return result;
}

static long write_whole(long pid, const struct piece *given)
{
	struct piece all = { whole, whole_length };
	memcpy(whole, given->base, given->length);
	return ask(SET_SET, pid, (void *)XSTATE, &all);
}

static long write_xstate(long pid, struct piece *given)
{
	struct piece all = { whole, LARGEST };
	long result;
	if (whole_length)
		return write_whole(pid, given);
	result = ask(SET_SET, pid, (void *)XSTATE, given);
	if (result != -EFAULT_)
		return result;
	if (ask(GET_SET, pid, (void *)XSTATE, &all) < 0 || all.length <= given->length)
		return result;
	whole_length = all.length;
	return write_whole(pid, given);
}

long ptrace(int request, int pid, void *address, void *data)
{
	long word = 0;
	int peeks = request >= PEEK_TEXT && request <= PEEK_USER;
	long result;
	if (request == SET_SET && address == (void *)XSTATE)
		result = write_xstate(pid, data);
	else
		result = ask(request, pid, address, peeks ? &word : data);
	if (result < 0) {
		*__errno_location() = (int)-result;
		return -1;
	}
	if (peeks)
		*__errno_location() = 0;
	return peeks ? word : result;
}

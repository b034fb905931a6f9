"""System calls by what the sandbox does with them, with their numbers on x86_64 and aarch64 ("-": there is none).

Numbers are those of Linux's asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

Numbers = dict[str, tuple[int | None, int | None]]


def _table(text: str) -> Numbers:
    found = {}
    for entry in text.split(","):
        name, *numbers = entry.split()
        found[name] = tuple(None if number == "-" else int(number) for number in numbers)
    return found


ALLOWED = _table("""
read 0 63, write 1 64, open 2 -, close 3 57, stat 4 -, fstat 5 80, lstat 6 -, poll 7 -, lseek 8 62, mmap 9 222,
mprotect 10 226, munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69, pwritev 296 70, preadv2 327 286,
pwritev2 328 287, access 21 -, pipe 22 -, pipe2 293 59, select 23 -, pselect6 270 72, ppoll 271 73,
sched_yield 24 124, mremap 25 216, msync 26 227, mincore 27 232, madvise 28 233, dup 32 23, dup2 33 -, dup3 292 24,
pause 34 -, nanosleep 35 101, clock_nanosleep 230 115, getitimer 36 102, alarm 37 -, setitimer 38 103,
getpid 39 172, gettid 186 178, getppid 110 173, sendfile 40 71, sendto 44 206, recvfrom 45 207, sendmsg 46 211,
recvmsg 47 212, sendmmsg 307 269, recvmmsg 299 243, shutdown 48 210, getsockname 51 204, getpeername 52 205,
setsockopt 54 208, getsockopt 55 209, fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, exit 60 93,
exit_group 231 94, wait4 61 260, waitid 247 95, kill 62 129, tkill 200 130, tgkill 234 131, uname 63 160,
fcntl 72 25, flock 73 32, fsync 74 82, fdatasync 75 83, sync_file_range 277 84, truncate 76 45, ftruncate 77 46,
getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, rename 82 -, renameat 264 38,
renameat2 316 276, mkdir 83 -, mkdirat 258 34, rmdir 84 -, creat 85 -, link 86 -, linkat 265 37, unlink 87 -,
unlinkat 263 35, symlink 88 -, symlinkat 266 36, readlink 89 -, readlinkat 267 78, chmod 90 -, fchmod 91 52,
fchmodat 268 53, fchmodat2 452 452, umask 95 166, gettimeofday 96 169, clock_gettime 228 113, clock_getres 229 114,
getrlimit 97 163, setrlimit 160 164, prlimit64 302 261, getrusage 98 165, sysinfo 99 179, times 100 153,
getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getgroups 115 158, getresuid 118 148,
getresgid 120 150, getpgrp 111 -, getpgid 121 155, setpgid 109 154, getsid 124 156, setsid 112 157, capget 125 90,
rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
rt_sigsuspend 130 133, sigaltstack 131 132, utime 132 -, utimes 235 -, utimensat 280 88, futimesat 261 -,
statfs 137 43, fstatfs 138 44, getpriority 140 141, setpriority 141 140, sched_getparam 143 121,
sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
sched_rr_get_interval 148 127, sched_getaffinity 204 123, sched_getattr 315 275, arch_prctl 158 -, time 201 -,
futex 202 98, futex_waitv 449 449, futex_wake 454 454, futex_wait 455 455, futex_requeue 456 456,
set_tid_address 218 96, set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, membarrier 324 283,
restart_syscall 219 128, timer_create 222 107, timer_settime 223 110, timer_gettime 224 108,
timer_getoverrun 225 109, timer_delete 226 111, timerfd_create 283 85, timerfd_settime 286 86,
timerfd_gettime 287 87, eventfd 284 -, eventfd2 290 19, signalfd 282 -, signalfd4 289 74, epoll_create 213 -,
epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441,
openat 257 56,
openat2 437 437, newfstatat 262 79, statx 332 291, faccessat 269 48, faccessat2 439 439, close_range 436 436,
copy_file_range 326 285, fallocate 285 47, fadvise64 221 223,
readahead 187 213, getrandom 318 278, getcpu 309 168, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10,
listxattr 194 11, llistxattr 195 12, flistxattr 196 13, get_mempolicy 239 236, mlock 149 228, munlock 150 229,
mlock2 325 284, pkey_mprotect 329 288, pkey_alloc 330 289, pkey_free 331 290, pidfd_open 434 434,
pidfd_send_signal 424 424, landlock_create_ruleset 444 444, landlock_add_rule 445 445,
landlock_restrict_self 446 446, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54, cachestat 451 451
""")
"""What ordinary programs need: files, memory, processes and threads of their own, time, pipes."""

BY_ARGUMENT = _table("""
clone 56 220, clone3 435 435, unshare 272 97, ioctl 16 29, prctl 157 167, personality 135 92, socket 41 198,
socketpair 53 199, mknod 133 -, mknodat 259 33, seccomp 317 277, connect 42 203, bind 49 200, listen 50 201,
accept 43 202, accept4 288 242
""")
"""Allowed or not by their arguments: seccomp.py says which."""

REFUSED = _table("""
setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147, setresgid 119 149,
setgroups 116 159, setfsuid 122 151, setfsgid 123 152, capset 126 91, sched_setaffinity 203 122,
sched_setscheduler 144 119, adjtimex 159 171, kcmp 312 272
""")
"""Fail with EPERM: programs try them in good faith. So does what is in none of these tables, with ENOSYS."""

HOSTILE = _table("""
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, bpf 321 280, perf_event_open 298 241,
kexec_load 246 104, kexec_file_load 320 294, init_module 175 105, finit_module 313 273, delete_module 176 106,
keyctl 250 219, add_key 248 217, request_key 249 218, mount 165 40, umount2 166 39, pivot_root 155 41,
chroot 161 51, setns 308 268, open_by_handle_at 304 265, move_mount 429 429, open_tree 428 428, fsopen 430 430,
fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442, userfaultfd 323 282, swapon 167 224,
swapoff 168 225, reboot 169 142, settimeofday 164 170, clock_settime 227 112, iopl 172 -, ioperm 173 -, acct 163 89,
quotactl 179 60, quotactl_fd 443 443, syslog 103 116, vhangup 153 58, sethostname 170 161, setdomainname 171 162,
pidfd_getfd 438 438, memfd_secret 447 447
""")
"""No program that was meant for the sandbox makes one of these: a breach, which ends the sandbox."""

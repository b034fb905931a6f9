"""Reaching into the kernel: calls that ordinary programs don't make, and files that steer it."""

from tests.control.sandbox.attacks.attack import Attack

KERNEL = [
    Attack(
        "tracing a process",
        """
import os, signal
child = os.fork()
if child == 0: signal.pause()
call('ptrace', 16, child, 0, 0)
os.waitpid(child, 0)
os.kill(child, 9)
print('SUCCEEDED')
""",
        alone=True,
        ends_by="ptrace",
    ),
    Attack(
        "reading another's memory",
        """
import ctypes, os, signal, struct
here, there = ctypes.create_string_buffer(8), ctypes.create_string_buffer(b'sevenxx')
child = os.fork()
if child == 0: signal.pause()
one = struct.pack('QQ', ctypes.addressof(here), 7)
two = struct.pack('QQ', ctypes.addressof(there), 7)
try:
    call('process_vm_readv', child, one, 1, two, 1, 0)
finally:
    os.kill(child, 9)
if here.raw[:7] == b'sevenxx': print('SUCCEEDED')
""",
        alone=True,
        ends_by="process_vm_readv",
    ),
    Attack(
        "taking another's descriptor",
        """
import os, signal
child = os.fork()
if child == 0: signal.pause()
try:
    call('pidfd_getfd', os.pidfd_open(child), 1, 0)
    print('SUCCEEDED')
finally:
    os.kill(child, 9)
""",
        alone=True,
        ends_by="pidfd_getfd",
    ),
    Attack(
        "loading a BPF map",
        "import struct\ncall('bpf', 0, struct.pack('IIII', 2, 4, 4, 1) + bytes(112), 128)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="bpf",
    ),
    Attack(
        "opening performance counters",
        "import struct\nattributes = struct.pack('IIQ', 1, 128, 0) + bytes(112)\n"
        "call('perf_event_open', attributes, 0, -1, -1, 0)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="perf_event_open",
    ),
    Attack("reading a keyring", "call('keyctl', 0, -3, 1)\nprint('SUCCEEDED')", alone=True, ends_by="keyctl"),
    Attack(
        "adding a key",
        "call('add_key', b'user', b'raysafe-attack', b'x', 1, -2)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="add_key",
    ),
    Attack("watching page faults", "call('userfaultfd', 1)\nprint('SUCCEEDED')", alone=True, ends_by="userfaultfd"),
    Attack("an io_uring", "call('io_uring_setup', 4, bytes(120))\nprint('SUCCEEDED')"),
    Attack(
        "a user namespace by unshare", "call('unshare', 0x10000000)\nprint('SUCCEEDED')", alone=True, ends_by="unshare"
    ),
    Attack(
        "a user namespace by clone",
        "import os\npid = call('clone', 0x10000000 | 17, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="clone",
    ),
    Attack(
        "a user namespace by clone3",
        "import os, struct\npid = call('clone3', struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)\n"
        "if pid == 0: os._exit(0)\nprint('SUCCEEDED')",
    ),
    Attack(
        "entering the namespaces of a process of the host",
        "import os\ncall('setns', os.open(f'/proc/{HOST[\"victim\"]}/ns/net', os.O_RDONLY), 0)\nprint('SUCCEEDED')",
    ),
    Attack(
        "entering a namespace of its own",
        "import os\ncall('setns', os.open('/proc/self/ns/uts', os.O_RDONLY), 0)\nprint('SUCCEEDED')",
        alone=True,
        ends_by="setns",
    ),
    Attack(
        "mounting a file system",
        "import os\ncall('unshare', 0x20000)\ncall('mount', b'x', os.getcwd().encode(), b'tmpfs', 0, 0)\n"
        "print('SUCCEEDED')",
        alone=True,
        ends_by="unshare",
    ),
    Attack(
        "mounting without asking for a namespace",
        "call('mount', b'none', b'/proc/nowhere', b'tmpfs', 0, 0)\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="mount",
    ),
    Attack(
        "unmounting what hides things",
        "call('umount2', b'/proc/cmdline', 2)\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="umount2",
    ),
    Attack(
        "a new root", "import os\nos.mkdir('r')\ncall('chroot', b'r')\nprint('SUCCEEDED')", alone=True, ends_by="chroot"
    ),
    Attack(
        "opening a file by its handle",
        """
import ctypes, os, struct
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
mount = ctypes.c_int()
call('name_to_handle_at', -100, HOST['root'].encode(), handle, ctypes.byref(mount), 0)
call('open_by_handle_at', os.open('/', os.O_RDONLY), handle, 0)
print('SUCCEEDED')
""",
    ),
    Attack(
        "opening a guessed handle",
        "import os, struct\nhandle = struct.pack('IiQ', 8, 1, 2)\n"
        "call('open_by_handle_at', os.open('.', os.O_RDONLY), handle, 0)\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="open_by_handle_at",
    ),
    Attack(
        "a device file",
        "import os\nos.mknod('null', 0o20666, os.makedev(1, 3))\nprint('SUCCEEDED')",
        alone=True,
        ends_by="mknodat",
    ),
    Attack(
        "ports of the hardware",
        "call('iopl', 3)\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="iopl",
        machine="x86_64",
    ),
    Attack("the kernel's log", "import os\ncall('syslog', 10, 0, 0)\nprint('SUCCEEDED')", alone=True, ends_by="syslog"),
    Attack(
        "loading a module",
        "call('init_module', b'', 0, b'')\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="init_module",
    ),
    Attack(
        "another kernel",
        "call('kexec_load', 0, 0, 0, 0)\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="kexec_load",
    ),
    Attack(
        "restarting the host",
        "call('reboot', 1, 2, 3, 0)\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="reboot",
    ),
    Attack(
        "the host's clock",
        "call('clock_settime', 99, bytes(16))\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="clock_settime",
    ),
    Attack(
        "secret memory", "call('memfd_secret', 0)\nprint('SUCCEEDED')", alone=True, safe=False, ends_by="memfd_secret"
    ),
    Attack(
        "calls of the x32 kind",
        "libc.syscall(0x40000000 | N['ptrace'], 0, 0, 0, 0)\nprint('SUCCEEDED')",
        alone=True,
        safe=False,
        ends_by="system call 1073741925",
        machine="x86_64",
    ),
    Attack(
        "calls of the 32-bit kind",
        """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20; int 0x80; ret
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
import os
if ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid(): print('SUCCEEDED')
""",
        alone=True,
        ends_by="number 20 of another architecture",
        machine="x86_64",
    ),
    Attack("an executable personality", "call('personality', 0x0400000)\nprint('SUCCEEDED')"),
    Attack("becoming root", "import os\nos.setresuid(0, 0, 0)\nprint('SUCCEEDED')"),
    Attack("becoming another user", "import os\nos.setresuid(4321, 4321, 4321)\nprint('SUCCEEDED')"),
    Attack(
        "a capability for what it starts",
        "import ctypes\nif libc.prctl(47, 2, 21, 0, 0) == 0: print('SUCCEEDED')",
        safe=False,
    ),
    Attack(
        "a filter of its own that listens",
        "import ctypes, struct\nprogram = struct.pack('HBBI', 6, 0, 0, 0x7FFF0000)\n"
        "buffer = ctypes.create_string_buffer(program)\n"
        "libc.prctl(38, 1, 0, 0, 0)\n"
        "call('seccomp', 1, 8, struct.pack('HxxxxxxQ', 1, ctypes.addressof(buffer)))\nprint('SUCCEEDED')",
    ),
    Attack("a switch of the kernel's", "open('/proc/sys/kernel/core_pattern', 'r+')\nprint('SUCCEEDED')"),
    Attack("the emergency key", "open('/proc/sysrq-trigger', 'w')\nprint('SUCCEEDED')", safe=False),
    Attack("physical memory", "open('/dev/mem', 'rb')\nprint('SUCCEEDED')", safe=False),
    Attack("the kernel's messages", "open('/dev/kmsg', 'rb')\nprint('SUCCEEDED')"),
    Attack("the control groups", "open(HOST['cgroup'] + '/cgroup.procs', 'r+')\nprint('SUCCEEDED')"),
    Attack(
        "a terminal, and words put into it",
        "import fcntl, os\nmine, other = os.openpty()\nfcntl.ioctl(other, 0x5412, b'x')\nprint('SUCCEEDED')",
    ),
]

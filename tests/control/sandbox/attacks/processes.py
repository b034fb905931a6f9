"""Other processes: seeing them, ending them, outliving the run, starting programs."""

from tests.control.sandbox.attacks.attack import Attack

PROCESSES = [
    Attack(
        "processes of the host",
        "if open(f'/proc/{HOST[\"parent\"]}/cmdline').read() == HOST['command']: print('SUCCEEDED')",
    ),
    Attack("a signal to a process of the host", "import os\nos.kill(HOST['victim'], 0)\nprint('SUCCEEDED')"),
    Attack(
        "a signal by a pidfd",
        "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(HOST['victim']), 0)\nprint('SUCCEEDED')",
    ),
    Attack(
        "limits of a process of the host",
        "import resource as r\nr.prlimit(HOST['victim'], r.RLIMIT_CORE)\nprint('SUCCEEDED')",
    ),
    Attack(
        "process 1, killed",
        "import os\nos.kill(1, 9)\nimport time\ntime.sleep(0.1)\nprint('SUCCEEDED')",
        safe=False,
    ),
    Attack("process 1, looked into", "open('/proc/1/mem', 'rb')\nprint('SUCCEEDED')", safe=False),
    Attack("process 1, written into", "open('/proc/1/mem', 'r+b')\nprint('SUCCEEDED')", safe=False),
    Attack("process 1's descriptors", "import os\nos.listdir('/proc/1/fd')\nprint('SUCCEEDED')", safe=False),
    Attack("process 1's last words", "import os\nos.open('/proc/1/fd/3', os.O_RDWR)\nprint('SUCCEEDED')", safe=False),
    Attack(
        "another program",
        "import subprocess\nsubprocess.run(['/usr/bin/env'], check=True, stdout=-3)\nprint('SUCCEEDED')",
    ),
    Attack("a shell", "import os\nif os.waitstatus_to_exitcode(os.system('true')) == 0: print('SUCCEEDED')"),
    Attack(
        "a program of its own",
        "import os, subprocess\nwith open('p', 'w') as f: f.write('#!/bin/sh\\nexit 0\\n')\nos.chmod('p', 0o755)\n"
        "subprocess.run(['./p'], check=True)\nprint('SUCCEEDED')",
    ),
    Attack(
        "a program in memory",
        "import os, subprocess\nf = os.memfd_create('p', 0)\nos.write(f, open('/usr/bin/true', 'rb').read())\n"
        "subprocess.run([f'/proc/self/fd/{f}'], check=True, pass_fds=[f])\nprint('SUCCEEDED')",
    ),
    Attack(
        "a program by its descriptor",
        """
import os
child = os.fork()
if child == 0:
    try: os.execve(os.open('/usr/bin/true', os.O_RDONLY), ['true'], {})
    finally: os._exit(1)
if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0: print('SUCCEEDED')
""",
    ),
    Attack(
        "a program by the loader",
        "import glob, subprocess\nsubprocess.run([glob.glob('/lib*/ld-linux*.so*')[0], '/usr/bin/true'], check=True)\n"
        "print('SUCCEEDED')",
    ),
]

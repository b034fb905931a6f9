"""Getting out by a network, or by a socket that isn't one."""

from tests.control.sandbox.attacks.attack import Attack

SOCKET = "import socket as s\n"

NETWORK = [
    Attack(
        "a connection to a service of the host",
        SOCKET
        + "c = s.create_connection(('127.0.0.1', HOST['port']), 5)\nif c.recv(7) == b'welcome': print('SUCCEEDED')",
    ),
    Attack(
        "a connection over IPv6",
        SOCKET + "s.socket(s.AF_INET6, s.SOCK_STREAM).bind(('::1', 0))\nprint('SUCCEEDED')",
    ),
    Attack(
        "a datagram",
        SOCKET
        + "c = s.socket(s.AF_INET, s.SOCK_DGRAM)\nc.sendto(b'x', ('127.0.0.1', HOST['port']))\nprint('SUCCEEDED')",
    ),
    Attack("listening", SOCKET + "s.create_server(('127.0.0.1', 0))\nprint('SUCCEEDED')"),
    Attack("a raw socket", SOCKET + "s.socket(s.AF_INET, s.SOCK_RAW, 1)\nprint('SUCCEEDED')"),
    Attack("packets", SOCKET + "s.socket(s.AF_PACKET, s.SOCK_RAW)\nprint('SUCCEEDED')"),
    Attack("netlink", SOCKET + "s.socket(s.AF_NETLINK, s.SOCK_RAW, 0)\nprint('SUCCEEDED')"),
    Attack("vsock", SOCKET + "s.socket(s.AF_VSOCK, s.SOCK_STREAM)\nprint('SUCCEEDED')"),
    Attack("the kernel's ciphers", SOCKET + "s.socket(s.AF_ALG, s.SOCK_SEQPACKET)\nprint('SUCCEEDED')", safe=False),
    Attack(
        "an abstract socket of the host",
        SOCKET + "c = s.socket(s.AF_UNIX)\nc.connect('\\0' + HOST['abstract'])\n"
        "if c.recv(7) == b'welcome': print('SUCCEEDED')",
    ),
    Attack(
        "a socket in a folder that it may read",
        SOCKET + "c = s.socket(s.AF_UNIX)\nc.connect(HOST['readable'] + '/socket')\n"
        "if c.recv(7) == b'welcome': print('SUCCEEDED')",
    ),
    Attack(
        "a pair of sockets of another family",
        "call('socketpair', 16, 3, 0, bytes(8))\nprint('SUCCEEDED')",
        safe=False,
    ),
    Attack(
        "interfaces of the host",
        "if len(open('/proc/net/dev').read().splitlines()) > 3: print('SUCCEEDED')",
    ),
    Attack(
        "connections of the host",
        "if ':%04X ' % HOST['port'] in open('/proc/net/tcp').read(): print('SUCCEEDED')",
    ),
    Attack(
        "the network of process 1",
        "if len(open('/proc/1/net/dev').read().splitlines()) > 3: print('SUCCEEDED')",
    ),
]

"""What a job reads off its surroundings: variables, names, descriptors, the door to its keeper."""

VARIABLES = {
    "HTTPS_PROXY": "http://user:canary-proxy@proxy.site.example:3128",
    "https_proxy": "http://user:canary-proxy@proxy.site.example:3128",
    "NO_PROXY": "canary-no-proxy.site.example",
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "INSITU_TOKEN": "canary-token",
    "SSL_CERT_FILE": "/canary-certificates",
    "PYTHONPATH": "/canary-python",
    "LD_PRELOAD": "",
    "SSH_AUTH_SOCK": "/canary-agent",
}

_LOOKS = """
import os
found = set()
word = b'can' + b'ary'  # not found in this very command line
def look(where, data):
    if word in data: found.add(where)
look('environ', repr(dict(os.environ)).encode())
for pid in filter(str.isdigit, os.listdir('/proc')):
    for name in ('environ', 'cmdline', 'mountinfo', 'maps'):
        try: look(name, open(f'/proc/{pid}/{name}', 'rb').read())
        except OSError: pass
"""
_IN_FILES_TOO = """
for folder in ('/etc', '/run', '/tmp', '/var', '/job', '/root', '/home'):
    for parent, _, names in os.walk(folder):
        for name in names:
            try: look(os.path.join(parent, name), open(os.path.join(parent, name), 'rb').read(1 << 20))
            except OSError: pass
"""
_TELLS = "print(sorted(found))"
LOOKS_AT_PROCESSES = _LOOKS + _TELLS
LOOKS_EVERYWHERE = _LOOKS + _IN_FILES_TOO + _TELLS

ASKS_FOR_THE_MACHINES_NAME = """
import os, socket
print(socket.gethostname()); print(os.uname().nodename)
for path in ('/etc/machine-id', '/etc/hostname', '/var/lib/dbus/machine-id', '/sys/class/dmi/id/product_uuid',
             '/sys/class/dmi/id/board_serial', '/proc/sys/kernel/hostname', '/sys/class/net/eth0/address'):
    try: print(open(path).read().strip())
    except OSError: print()
"""

LISTS_ITS_DESCRIPTORS = """
import os
for number in os.listdir('/proc/self/fd'):
    try: target = os.readlink(f'/proc/self/fd/{number}')
    except OSError: continue
    if not target.startswith(('pipe:', '/dev/null', '/proc/', 'socket:')): print(number, target)
try: print(os.ctermid(), open('/dev/tty'))
except OSError: print('no terminal')
"""

LOOKS_FOR_THE_KEEPER = """
import os
print(os.path.exists('/run/insitu/keeper.sock'))
held = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: held += [os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd') if pid != str(os.getpid())]
    except OSError: pass
print([link for link in held if 'socket' in link])
"""

RAISES_ITS_LIMITS = """
import resource
for name in ('RLIMIT_NOFILE', 'RLIMIT_FSIZE', 'RLIMIT_CORE'):
    limit = getattr(resource, name)
    soft, hard = resource.getrlimit(limit)
    more = hard + 1 if hard >= 0 else hard  # -1 is none
    try: resource.setrlimit(limit, (more, more)); print(name, 'WORKED')
    except (ValueError, OSError): print(name, soft)
"""

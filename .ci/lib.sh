# Sourced by `run` and `long`: what a machine must have, and parts whose seconds are printed in one table at the end.
set -uo pipefail
export CI=true # what a test needs and does not find is a failure here
export PYTEST_ADDOPTS="${PYTEST_ADDOPTS:-} -rs" # what is skipped all the same is named at the end
export DEBIAN_FRONTEND=noninteractive

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# needs PATH PACKAGE [PATH PACKAGE...]: installs the packages whose files are not here, all at once.
needs() {
    local missing=()
    while [ $# -gt 0 ]; do
        [ -e "$1" ] || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "ci: installing ${missing[*]}"
    as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What tests need of a machine, as `needs` takes it.
TOOLS=(
    /usr/share/java/zookeeper.jar zookeeper /usr/sbin/nginx nginx /usr/bin/strace strace
    /usr/sbin/haproxy haproxy /usr/sbin/pgbouncer pgbouncer /usr/bin/gcc gcc /usr/include/stdio.h libc6-dev
    /usr/lib/postgresql postgresql /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
)
MORE_TOOLS=(/usr/bin/promtool prometheus) # large, and for one test that reads the same rules

# packages PATH PACKAGE...: the packages alone.
packages() {
    while [ $# -gt 0 ]; do
        echo "$2"
        shift 2
    done
}

# in_debian ROOT COMMAND...: ROOT, a mount, is the root of the command's namespace. In a chroot the kernel would name what works in
# a further namespace by the paths outside, as in no container. CI and TEST_POSTGRESQL_URL hold there too.
in_debian() {
    env -u PIP_FIND_LINKS PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        unshare --mount sh -c 'cd "$0" && pivot_root . . && umount --lazy . && exec chroot . "$@"' "$@"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The servers that tests use where they do not run their own.
servers() {
    if ! listens 5432; then
        needs /usr/lib/postgresql postgresql && as_root service postgresql start || return
    fi
    if [ -z "${TEST_POSTGRESQL_URL:-}" ] && ! psql -qAt -U postgres -h 127.0.0.1 -w -c 'SELECT 1' >/dev/null 2>&1; then
        local password role=ops_updater_ci
        password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
        as_root runuser -u postgres -- psql -q -c "DROP ROLE IF EXISTS $role" \
            -c "CREATE ROLE $role SUPERUSER LOGIN PASSWORD '$password'" || return
        export TEST_POSTGRESQL_URL=postgresql://$role:$password@127.0.0.1:5432/postgres
    fi
    if ! listens 5672; then
        needs /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server && as_root service rabbitmq-server start
    fi
}

machine() { needs "${TOOLS[@]}" "$@" && servers; }

table=()
failed=0

# part NAME COMMAND...: runs it and notes what became of it and in how many seconds. What failed is said in the end.
part() {
    local name=$1 began=$SECONDS result=passed
    shift
    echo "--- $name"
    "$@" || { result=FAILED && failed=1; }
    table+=("$(printf '%-44s %6d s  %s' "$name" $((SECONDS - began)) "$result")")
}

# advice NAME COMMAND...: the same for what says what would break, and breaks nothing.
advice() {
    local before=$failed
    part "$@"
    failed=$before
}

# absent NAME WHY: what could not be had here.
absent() { table+=("$(printf '%-44s %8s  %s' "$1" - "not here: $2")"); }

summary() {
    printf '\n'
    printf '%s\n' "${table[@]}"
    printf '%-44s %6d s\n' all $SECONDS
    exit $failed
}

# All tests. What failed is tried once more, alone, and named: what passes then is not deterministic, which is a defect of its own.
tests() {
    ./control test --all && return
    local name names
    names=$(failed_tests)
    echo "ci: the tests that failed, once more and alone"
    .venv/bin/python -m pytest -v --last-failed --last-failed-no-failures none --maxfail 6 || return
    table+=("$(printf '%-44s %8s  %s' "tests that passed only alone: mend them" - "see above")")
    while read -r name; do table+=("  $name"); done <<<"$names"
}

# The names of the tests that failed last, one a line.
failed_tests() {
    .venv/bin/python -c 'import json; print(*json.load(open(".pytest_cache/v/cache/lastfailed")), sep="\n")'
}

faults() { ./control faults "$@"; }

# The REST API, by this many cases.
api() { PYTHONPATH=tests:. .venv/bin/python -m helpers.schemathesis_run --cases "$1" --seed "${2:-1}"; }

# shellcheck shell=bash
# Become the distribution's redis-server with the options given. The password, if REDIS_PASSWORD holds one, goes by a
# pipe: a command line is readable by every user of the host. usage: bash lib/redis.sh --OPTION VALUE...
set -uo pipefail
program=$(type -P redis-server) || {
    echo 'dync: error: redis-server is missing: apt install redis-server, or dnf install redis' >&2
    exit 2
}
line=''
if [[ -n ${REDIS_PASSWORD-} ]]; then
    # Every byte as \xNN, which a quoted word of redis.conf may hold whatever it is.
    line=$(printf %s "$REDIS_PASSWORD" | od -An -v -tx1 | tr -d '\n')
    line="requirepass \"${line// /\\x}\""
    unset REDIS_PASSWORD
fi
exec "$program" - "$@" < <(printf '%s\n' "$line")

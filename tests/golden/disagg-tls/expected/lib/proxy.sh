# shellcheck shell=bash
# Become the distribution's nginx before a deployment. Its secrets (the API key, the certificate and its key) come as
# variables, and go to nginx in files that have no name any more: on no command line, in no environment.
# usage: bash lib/proxy.sh CONFIGURATION, or --check PORT
set -uo pipefail
# One regular expression holds the key, each byte as \xNN; nginx takes words of less than 4096 bytes.
most_bytes=512

proxy_fail() {
    printf 'dync: error: proxy: %s\n' "$*" >&2
    exit 2
}

proxy_find() { # put in program where nginx is
    program=$(PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin type -P nginx) ||
        proxy_fail 'nginx is missing: apt install nginx-light, or dnf install nginx'
}

proxy_check_key() {
    local LC_ALL=C key=${VLLM_API_KEY-}
    [[ ! $key =~ [^[:print:]] ]] ||
        proxy_fail 'the API key holds what no HTTP header can carry: it must be printable ASCII, on one line'
    [[ $key != ' '* && $key != *' ' ]] || proxy_fail 'the API key begins or ends with a space, which no client can send'
    ((${#key} <= most_bytes)) || proxy_fail "the API key has ${#key} bytes; at most $most_bytes can be asked for"
}

proxy_check_port() { # PORT
    local -i first
    local capabilities
    first=$(</proc/sys/net/ipv4/ip_unprivileged_port_start) 2>/dev/null || first=1024
    capabilities=$(sed -n 's/^CapEff:\s*//p' /proc/self/status)
    (($1 >= first || 16#$capabilities >> 10 & 1)) || # CAP_NET_BIND_SERVICE
        proxy_fail "$(id -un) may not listen on port $1, below $first: choose another frontend.port," \
            'or let systemd start it (dync install), whose unit may'
}

proxy_give() { # DESCRIPTOR TEXT: in a file that has lost its name
    local file
    file=$(mktemp -- "$folder/secret.XXXXXX") || proxy_fail "$folder cannot be written"
    { printf '%s\n' "$2" >"$file" && eval "exec $1<\"\$file\"" && rm -f -- "$file"; } ||
        proxy_fail "$file cannot be written"
}

proxy_start() { # CONFIGURATION
    local key
    folder=${RUNTIME_DIRECTORY:-run/proxy} # of this unit, or of the bundle
    umask 077
    mkdir -p -- "$folder" || proxy_fail "$folder cannot be made"
    folder=$(cd -P -- "$folder" && pwd) || proxy_fail "$folder cannot be entered"
    rm -f -- "$folder"/secret.*
    if [[ -n ${VLLM_API_KEY-} ]]; then
        key=$(printf %s "$VLLM_API_KEY" | od -An -v -tx1 | tr -d '\n')
        proxy_give 3 "map \$http_authorization \$dync_key { default 0; \"~^(?i:bearer)\\x20+${key// /\\x}\\z\" 1; }"
    fi
    if [[ -n ${PROXY_TLS_KEY-} ]]; then
        proxy_give 4 "$PROXY_TLS_CERTIFICATE"
        proxy_give 5 "$PROXY_TLS_KEY"
    fi
    unset VLLM_API_KEY PROXY_TLS_CERTIFICATE PROXY_TLS_KEY
    # A shell of its own, whose environment never held them.
    exec "$BASH" lib/proxy.sh --serve "$program" -p "$folder" -c "$PWD/$1"
}

# nginx cuts requests off at TERM, and finishes them at QUIT.
proxy_serve() { # PROGRAM OPTION...
    local child='' stopping=0 status
    [[ $("$1" -h 2>&1) != *' -e '* ]] || set -- "$@" -e stderr # or it tries a log of the host's first
    # As root, nginx's workers would be the distribution's account for them, and let all of that account read their memory.
    ((EUID)) || set -- "$@" -g "user $(id -un);"
    trap 'stopping=1; [[ -z $child ]] || kill -s QUIT "$child"' TERM INT
    "$@" &
    child=$!
    exec 3<&- 4<&- 5<&-
    ((!stopping)) || kill -s QUIT "$child"
    while :; do
        wait "$child"
        status=$?
        kill -0 "$child" 2>/dev/null || exit "$status"
    done
}

case $1 in
--serve) proxy_serve "${@:2}" ;;
--check)
    proxy_find
    proxy_check_key
    proxy_check_port "$2"
    ;;
*)
    proxy_find
    proxy_check_key
    proxy_start "$1"
    ;;
esac

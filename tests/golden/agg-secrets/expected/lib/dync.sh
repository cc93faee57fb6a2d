# shellcheck shell=bash
# What launch.sh and bin/<process>.sh do; the scripts themselves hold only the deployment's data.
# Needs bash 4.4, coreutils, findutils, grep and util-linux. Expects the bundle's root as the working folder.

# Byte-wise text, dots in numbers and English messages, whatever the caller's locale; no process inherits it.
LC_ALL=C
# Whatever options the caller's shell gave: under -e a question that is answered no would end the script, -f and globbing
# options hide /proc, -C keeps logs; a job-control shell (-m) would make setsid fork, and the pid seen here would not be
# the program's.
set +efmC
shopt -u failglob nullglob nocasematch
unset GLOBIGNORE

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "dync: error: this needs bash 4.4 or newer, not $BASH_VERSION" >&2
    exit 2
fi

# Set by lib/built.sh.
built_mode='' built_chunk_size='' built_chunk_multiple='' built_cpu_gb='' built_local_cpu='' built_tiers=''

# shellcheck source=/dev/null
. lib/owners.sh

dync_say() { printf 'dync: %s\n' "$*"; }
dync_errors=2 # the descriptor for error lines
dync_error() { printf 'dync: error: %s\n' "$*" >&"$dync_errors"; }

dync_fail() { # STATUS MESSAGE...
    dync_error "${@:2}"
    exit "$1"
}

# ---- switches ----------------------------------------------------------------------------------------------------

declare -A dync_replaced=() # switch -> value, only where it differs from what was built
dync_lmcache=1              # 0: the form without LMCache
dync_refused=0

dync_refuse_switch() {
    dync_error "$*"
    dync_refused=1
}

dync_report_switch() { # launch.sh has said it already when it starts a script
    [[ -n ${DYNC_SWITCHES_REPORTED-} ]] || dync_say "$*" >&2
}

dync_replace() { # VARIABLE BUILT
    dync_replaced[$1]=${!1}
    dync_report_switch "$1=${!1} replaces the built $2"
}

# Read the four switches from the environment. Every wrong one is named before the exit with status 2.
dync_read_switches() {
    local variable
    [[ $built_mode != off ]] || dync_lmcache=0
    dync_read_enable
    for variable in LMCACHE_CHUNK_SIZE LMCACHE_LOCAL_CPU LMCACHE_MAX_LOCAL_CPU_SIZE; do
        [[ -n ${!variable-} ]] || continue
        if ((!dync_lmcache)); then
            dync_report_switch "$variable=${!variable} is ignored: LMCache is off"
            continue
        fi
        case $variable in
        LMCACHE_CHUNK_SIZE) dync_read_chunk_size "${!variable}" ;;
        LMCACHE_LOCAL_CPU) dync_read_local_cpu "${!variable}" ;;
        LMCACHE_MAX_LOCAL_CPU_SIZE) dync_read_cpu_size "${!variable}" ;;
        esac
    done
    ((!dync_refused)) || exit 2
}

dync_read_enable() {
    case ${ENABLE_LMCACHE-} in
    '') ;;
    0 | false | False)
        [[ $built_mode == off ]] || dync_replace ENABLE_LMCACHE 1
        dync_lmcache=0
        ;;
    1 | true | True)
        [[ $built_mode != off ]] || dync_refuse_switch "ENABLE_LMCACHE=$ENABLE_LMCACHE: this bundle was built" \
            "without LMCache; rebuild it with lmcache.enabled: true"
        ;;
    *) dync_refuse_switch "ENABLE_LMCACHE=$ENABLE_LMCACHE is neither 0 nor 1" ;;
    esac
}

dync_read_chunk_size() {
    local -i below above multiple=$built_chunk_multiple
    if [[ ! $1 =~ ^[1-9][0-9]{0,11}$ ]]; then # twelve digits cannot overflow the arithmetic below
        dync_refuse_switch "LMCACHE_CHUNK_SIZE=$1 is not a positive whole number of tokens;" \
            "it must be a multiple of $multiple, the built one is $built_chunk_size"
    elif (($1 == built_chunk_size)); then
        :
    elif (($1 % multiple)); then
        ((below = $1 / multiple * multiple, below = below ? below : multiple))
        ((above = below + multiple))
        dync_refuse_switch "LMCACHE_CHUNK_SIZE=$1 is not a multiple of $multiple tokens;" \
            "the nearest right values are $below and $above"
    else
        dync_replace LMCACHE_CHUNK_SIZE "$built_chunk_size"
    fi
}

dync_read_local_cpu() {
    case $1 in
    True | true | 1) [[ $built_local_cpu == True ]] || dync_replace LMCACHE_LOCAL_CPU "$built_local_cpu" ;;
    False | false | 0)
        if [[ -z $built_tiers ]]; then
            dync_refuse_switch "LMCACHE_LOCAL_CPU=$1: there is no other tier: nothing would ever hit;" \
                "use ENABLE_LMCACHE=0 to run without LMCache"
        elif [[ $built_mode != in_process ]]; then
            dync_refuse_switch "LMCACHE_LOCAL_CPU=$1: the cache server always keeps what it caches in host memory" \
                "before its tiers ($built_tiers)"
        else
            dync_replace LMCACHE_LOCAL_CPU "$built_local_cpu"
        fi
        ;;
    *) dync_refuse_switch "LMCACHE_LOCAL_CPU=$1 is neither True nor False" ;;
    esac
}

dync_read_cpu_size() {
    local built
    dync_decimal "$built_cpu_gb" && built=$REPLY
    if dync_decimal "$1" && [[ $REPLY != . ]]; then
        [[ $REPLY == "$built" ]] || dync_replace LMCACHE_MAX_LOCAL_CPU_SIZE "$built_cpu_gb"
    elif [[ $1 =~ ^([0-9]+(\.[0-9]+)?)\ *[GgKkMmTt][Ii]?[Bb]?$ ]]; then
        dync_refuse_switch "LMCACHE_MAX_LOCAL_CPU_SIZE=$1 has a unit; it is a plain number of GB: 20GB is written 20"
    else
        dync_refuse_switch "LMCACHE_MAX_LOCAL_CPU_SIZE=$1 is not a positive decimal number of GB, such as 20 or 0.5"
    fi
}

dync_decimal() { # Put a decimal number in REPLY so that equal numbers are equal text: 020.50 -> 20.5, 20 -> 20., 0 -> .
    [[ $1 =~ ^([0-9]+)(\.([0-9]+))?$ ]] || return 1
    local whole=${BASH_REMATCH[1]} part=${BASH_REMATCH[3]}
    while [[ $whole == 0* ]]; do whole=${whole#0}; done
    while [[ $part == *0 ]]; do part=${part%0}; done
    REPLY=$whole.$part
}

# ---- bin/<process>.sh --------------------------------------------------------------------------------------------

dync_check_only=0     # 1: look for errors, run nothing
dync_kept=(DYNC_LAUNCH DYNC_PROCESS) # caller's variables that the process gets: launch.sh's marks, and more
dync_secrets=()       # NAME=VALUE, for the process alone
declare -a environment argv # the script's own

dync_script() { # NAME "$@"
    dync_process=$1
    case ${*:2} in
    '') ;;
    --check) dync_check_only=1 ;;
    *) dync_fail 2 "usage: bin/$1.sh [--check], not ${*:2}" ;;
    esac
    dync_read_switches
}

dync_needs_lmcache() {
    ((dync_lmcache)) || dync_fail 2 "$dync_process is a part of LMCache: it does not run with ENABLE_LMCACHE=0"
}

dync_without_lmcache() { ((!dync_lmcache)); }

# shellcheck disable=SC2034  # the script reads argv
dync_argv_switch() { # VARIABLE INDEX
    [[ -z ${dync_replaced[$1]-} ]] || argv[$2]=${dync_replaced[$1]}
}

dync_env_switch() { # VARIABLE
    [[ -z ${dync_replaced[$1]-} ]] || environment+=("$1=${dync_replaced[$1]}")
}

dync_secret() { # VARIABLE FILE
    [[ -f $2 && -r $2 ]] || dync_fail 2 "$dync_process: $1 is read from $2, which is no readable file"
    local value
    ! IFS= read -r -d '' value <"$2" ||
        dync_fail 2 "$dync_process: $1 is read from $2, which holds a NUL: no variable can"
    value=${value%"${value##*[!$'\n']}"} # the newlines at its end; those within it stay
    [[ -n $value ]] || dync_fail 2 "$dync_process: $1 is read from $2, which is empty"
    ((${#1} + ${#value} < 131071)) || # Linux, MAX_ARG_STRLEN, with the = and the end
        dync_fail 2 "$dync_process: $1 is read from $2, which is longer than a variable can be (128 KiB)"
    dync_secrets+=("$1=$value")
    dync_kept+=("$1")
}

# ---- storage tiers -----------------------------------------------------------------------------------------------

# Make a tier's folder, and bring what an earlier run left there down to KEEP_BYTES, the oldest first: LMCache counts
# only what it wrote itself. Its files all have an @ in their names; nothing else is touched. Empty: nothing is removed.
dync_folder() { # FOLDER KEEP_BYTES SHARED: a shared one is mounted, and would be one of this host alone if made
    local entry
    local -i kept=0 files=0
    [[ -z $3 || -d $1 ]] || dync_fail 2 "$dync_process: the tier's folder $1 is not there: mount it first"
    (umask 0077 && mkdir -p -- "$1") 2>/dev/null # an error is told below, with what it means
    [[ -d $1 && -w $1 && -x $1 ]] ||
        dync_fail 2 "$dync_process: the tier's folder $1 cannot be made or written by $(id -un)"
    [[ -n $2 ]] && ((!dync_check_only)) || return 0
    while IFS= read -r -d '' entry; do # newest first: SIZE PATH
        kept+=${entry%% *}
        ((kept > $2)) || continue
        rm -f -- "${entry#* }" && files+=1
    done < <(find "$1" -type f -name '*@*' -printf '%T@ %s %p\0' | sort -z -rn | cut -z -d ' ' -f 2-)
    ((!files)) || dync_say "$dync_process: removed $files old files of the tier $1" >&2
}

# Ask the server of a tier before the process starts: LMCache logs a wrong password and serves without the tier.
# Where dync_claim says whose it must be, it is asked nothing, and told no password, while it is anybody else's.
dync_claim=()
dync_server() { # HOST PORT USERNAME PASSWORD_FILE WITHIN_S REQUIRED [NAME_OF_THE_FILE]
    local -i give_up status
    local password='to serve without a password (password_file)'
    [[ -z $4 ]] || password="the password of ${7:-$4}"
    dync_uptime
    give_up=$((REPLY + $5 * 100))
    while :; do
        status=0
        dync_server_owned "$1" "$2" && (dync_bounded 3 dync_redis "$1" "$2" "$3" "$4" "$REPLY") || status=$?
        dync_uptime
        ((status != 0 && status != 2 && REPLY < give_up)) || break
        sleep 0.5
    done
    case $status in
    0) ;;
    2) dync_fail 2 "$dync_process: the server of a tier at $1:$2 refuses $password" ;;
    *)
        [[ -z $6 ]] || dync_fail 2 "$dync_process: no server of a tier answers at $1:$2"
        dync_say "$dync_process: no server of a tier answers at $1:$2: it starts without, and connects when there is one" >&2
        ;;
    esac
}

dync_server_of_ours() { # as dync_server, for one that is started along: not asked before anything runs
    ((!dync_check_only)) || return 0
    dync_mark=${DYNC_LAUNCH-} dync_claim=(account) # started by hand: by whom, more is not known
    [[ -z $dync_mark ]] || dync_claim=(launch)
    dync_server "$@"
}

dync_server_owned() { # HOST PORT: put in REPLY the sockets that must be those which are asked
    local status=0
    REPLY=''
    ((${#dync_claim[@]})) || return 0
    dync_whose "$1" "$2" "${dync_claim[@]}" || status=$?
    ((status >= 2)) || return "$status"
    ((status == 2)) || dync_fail 2 "$dync_process: the password of the server at $1:$2 is not sent:" \
        "/proc/net/tcp cannot be read, so nobody knows whose it is"
    # shellcheck disable=SC2086  # an inode and a uid
    dync_holder $REPLY
    dync_fail 2 "$dync_process: port $2 on $1 is held by $REPLY, and not by this deployment's own server"
}

# True if a server of Redis' protocol answers PING; status 2 where it refuses the password.
dync_redis() { # HOST PORT USERNAME PASSWORD_FILE INODES: of the sockets that must have taken the connection; '': any
    local LC_ALL=C password reply words=(AUTH) # lengths are in bytes
    exec 3<>"/dev/tcp/$1/$2" || return 1
    [[ -z $5 ]] || dync_still "$1" "$2" "$5" || return 1
    if [[ -n $4 ]]; then
        password=$(<"$4") || return 1
        [[ -z $3 ]] || words+=("$3")
        words+=("$password")
        printf '*%d\r\n' "${#words[@]}" >&3
        for reply in "${words[@]}"; do printf '$%d\r\n%s\r\n' "${#reply}" "$reply" >&3; done
        IFS= read -r reply <&3 || return 1
        [[ $reply == +OK* ]] || return 2
    fi
    printf 'PING\r\n' >&3
    IFS= read -r reply <&3 || return 1
    case $reply in
    +PONG*) return 0 ;;
    -NOAUTH* | -WRONGPASS* | -NOPERM*) return 2 ;;
    esac
    return 1
}

dync_uptime() { # put in REPLY the hundredths of a second since boot
    read -r REPLY _ </proc/uptime
    REPLY=$((10#${REPLY/./}))
}

dync_pass() { dync_kept+=("$@"); }

# Become the program. `env -i` would be shorter, but its command line, readable by every user of the host,
# would show the secrets: so they are exported, and every other variable of the caller is dropped by name.
# They are exported last, by one command after which no variable is read: a secret may have the name of one of these.
dync_exec() { # NAME=VALUE... -- ARGV...
    local entry assignments=() drop=()
    while [[ $1 != -- ]]; do
        assignments+=("$1")
        shift
    done
    shift
    ((!dync_check_only)) || exit 0
    while IFS= read -r -d '' entry; do
        entry=${entry%%=*}
        [[ " ${dync_kept[*]} " == *" $entry "* ]] || drop+=(-u "$entry")
    done < <(env -0)
    # env takes a program whose path has a = for one more variable; nice does not, and changes nothing.
    [[ $1 != *=* ]] || set -- "$(type -P nice)" -n 0 -- "$@"
    set -- env "${drop[@]}" -- "${assignments[@]}" "$@"
    if ((${#dync_secrets[@]})); then
        unset -v "${dync_secrets[@]%%=*}" # what is an array here would not be exported
        export "${dync_secrets[@]}"
    fi
    exec "$@"
}

# ---- launch.sh: the deployment -----------------------------------------------------------------------------------

# Times are in hundredths of a second since boot: /proc/uptime has them without a fork and never jumps.
dync_order=() # a start order
declare -A dync_host=() dync_port=() dync_path=() dync_timeout=() dync_stop=() dync_after=() dync_listens=()
declare -A dync_body=() dync_key_file=() dync_protocol=()
declare -A dync_only_lmcache=()
declare -A dync_state=() # waiting -> starting -> ready -> gone
declare -A dync_pid=() dync_began=() dync_probe=() dync_probe_at=()
declare -A dync_term_at=() dync_grace=() dync_left_at=() dync_kill_at=() # on the way to gone
dync_bundle_name='' dync_bundle_url='' dync_now=0 dync_served=0 dync_signal_at=0 dync_kill_all=0 dync_finished=0
dync_with_us=()
dync_registrations='' dync_keeper='' dync_guard=''

dync_bundle() { dync_bundle_name=$1 dync_bundle_url=$2; } # NAME URL

dync_add() { # NAME READY_HOST READY_PORT READY_PATH READY_TIMEOUT_S STOP_S AFTER LISTENS READY_BODY KEY_FILE PROTOCOL
    dync_order+=("$1")
    dync_host[$1]=$2 dync_port[$1]=$3 dync_path[$1]=$4 dync_timeout[$1]=$5 dync_stop[$1]=$6
    dync_after[$1]=$7 dync_listens[$1]=$8 dync_body[$1]=$9 dync_key_file[$1]=${10} dync_protocol[$1]=${11}
    dync_state[$1]=waiting
}

dync_keep() { dync_registrations=$1; } # FOLDER: of the files by which processes find each other

dync_add_lmcache_only() { dync_only_lmcache[$1]=1; } # NAME

dync_launch() {
    dync_arguments "$@"
    unset DYNC_SWITCHES_REPORTED
    dync_read_switches
    export DYNC_SWITCHES_REPORTED=1
    dync_drop_lmcache
    dync_check_scripts
    dync_check_host
    trap 'dync_on_signal INT' INT
    trap 'dync_on_signal TERM' TERM
    trap 'dync_on_signal HUP' HUP
    trap : PIPE # `launch.sh | tee`, Ctrl-C: tee is gone first, and the next line must not end the stopping
    # bash writes a line of its own for each child that a signal ended: kept, but out of the way.
    exec 7>&2 2>run/messages
    dync_errors=7
    trap dync_on_exit EXIT
    dync_run
}

dync_arguments() {
    (($#)) || return 0
    [[ $# == 1 && $1 == --help ]] || dync_fail 2 "launch.sh takes no argument but --help, not $*"
    cat <<END
usage: launch.sh [--help]

Starts $dync_bundle_name in the order of its dependencies, waits until it serves at $dync_bundle_url,
and stops it on Ctrl-C or SIGTERM; a second one kills what is left. Logs: logs/<process>.log

switches (environment): ENABLE_LMCACHE=0  LMCACHE_CHUNK_SIZE  LMCACHE_LOCAL_CPU  LMCACHE_MAX_LOCAL_CPU_SIZE

exit status:
  0  stopped on request
  2  usage, a switch or a secret is wrong; nothing was started
  3  refused before start: runs already, a port is taken, logs/ or run/ cannot be written
  4  a process ended before the deployment served
  5  a process was not ready in time, or cannot be: its port is another's
  6  a process ended while the deployment served
END
    exit 0
}

dync_drop_lmcache() {
    ((!dync_lmcache)) || return 0
    local name other kept=() after
    for name in "${dync_order[@]}"; do
        [[ -z ${dync_only_lmcache[$name]-} ]] || continue
        kept+=("$name")
        after=''
        for other in ${dync_after[$name]}; do
            [[ -n ${dync_only_lmcache[$other]-} ]] || after+=" $other"
        done
        dync_after[$name]=$after
    done
    dync_order=("${kept[@]}")
}

dync_check_scripts() { # a missing secret is found before the first process loads a model for minutes
    local name wrong=0
    for name in "${dync_order[@]}"; do
        "$BASH" "bin/$name.sh" --check </dev/null || wrong=1
    done
    ((!wrong)) || exit 2
}

dync_check_host() {
    local tool name
    for tool in setsid flock find grep; do
        type -P "$tool" >/dev/null || dync_fail 3 "$tool is missing; install util-linux, findutils and grep"
    done
    ! setpriv --pdeathsig TERM -- true 2>/dev/null || dync_with_us=(setpriv --pdeathsig TERM --)
    (umask g-w,o-w && mkdir -p logs run) || dync_refuse_folders # root launches none that others can change
    [[ -f run/lock || ! -e run/lock ]] && [[ ! -L run/lock ]] ||
        dync_fail 3 "run/lock of this bundle is no regular file: remove it"
    exec 8<>run/lock || dync_refuse_folders
    exec 9<> <(:) # a pipe that stays silent, for dync_tick
    dync_mark_of "$PWD"
    dync_mark=$REPLY
    flock -n 8 || dync_refuse_second
    dync_hold "$$"
    dync_check_left
    dync_check_ports
    # Prompts may stand in logs: they are their account's own.
    for name in "${dync_order[@]}"; do
        [[ ! -e logs/$name.log && ! -L logs/$name.log ]] || mv -f -- "logs/$name.log" "logs/$name.log.1" ||
            dync_fail 3 "logs/$name.log cannot be moved aside"
        (umask 0077 && : >"logs/$name.log") || dync_fail 3 "logs/$name.log cannot be written"
    done
    rm -f run/started run/messages
    { (umask 0077 && : >run/messages) &&
        printf '%s\n' "$(</proc/sys/kernel/random/boot_id)" "$dync_mark" >run/started; } 2>/dev/null ||
        dync_fail 3 "run/messages and run/started cannot be written"
}

# Write into the lock who holds it, and of which bundle: whoever finds it by a link, or in a copy, can tell.
dync_hold() { # HOLDER
    printf '%s\n' "$1" "$dync_mark" >/proc/self/fd/8 # a build may have put another folder here
}

dync_refuse_second() { # what holds the lock is told by the lock
    local holder='' mark='' others
    {
        IFS= read -r holder
        IFS= read -r mark
    } < <(head -c 65536 <&8)
    others="run/ of this bundle is also that of ${mark#*:}, which runs (launch.sh has pid ${holder:-unknown})"
    [[ -z $mark || ${mark%%:*} == "${dync_mark%%:*}" ]] ||
        dync_fail 3 "this bundle runs already, in another PID namespace, as in a container: stop it there"
    [[ -z $mark || $mark == "$dync_mark" || /proc/${holder%% *}/cwd -ef . ]] ||
        dync_fail 3 "$others: remove the link or copy, rm -r ${PWD@Q}/run, and start again"
    [[ $holder != *guard* ]] || dync_fail 3 "launch.sh of this bundle was killed, and pid ${holder% *} still ends" \
        "what it left; start again when that has gone"
    dync_fail 3 "this bundle runs already (launch.sh has pid ${holder:-unknown})"
}

dync_refuse_folders() { # one launch by sudo is enough
    local path
    for path in logs run run/lock; do
        [[ ! -e $path || -w $path || -O $path ]] || dync_fail 3 "logs/ and run/ of this bundle cannot be written: $path" \
            "is $(stat -c %U -- "$path")'s; sudo chown -R $(id -un) ${PWD@Q}/logs ${PWD@Q}/run"
    done
    dync_fail 3 "logs/ and run/ of this bundle cannot be written"
}

dync_check_left() { # what an earlier launch left when it was killed
    local pid
    dync_find_left
    # shellcheck disable=SC2154  # lib/owners.sh has it
    ((${#dync_left[@]})) || return 0
    for pid in "${dync_left[@]}"; do
        dync_said_of "$pid"
        dync_error "an earlier launch of this bundle left $REPLY"
    done
    dync_fail 3 "end what is left: dync down $PWD, or kill -KILL ${dync_left[*]}"
}

dync_check_ports() {
    local name listen host port by taken=0
    for name in "${dync_order[@]}"; do
        for listen in ${dync_listens[$name]}; do
            port=${listen##*:}
            dync_reachable "${listen%:*}"
            host=$REPLY by=''
            if dync_listening "$host" "$port"; then
                # shellcheck disable=SC2086,SC2154  # an inode and a uid, of lib/owners.sh
                dync_holder ${dync_sockets[0]}
                by=" by $REPLY"
            elif ! (dync_bounded 2 dync_connect "$host" "$port"); then
                continue
            fi
            dync_error "port $port on ${listen%:*} is taken$by, and $name wants it"
            taken=1
        done
    done
    ((!taken)) || exit 3
}

dync_reachable() { # Put in REPLY the address at which a server listening on HOST answers.
    REPLY=${1#[}
    REPLY=${REPLY%]}
    case $REPLY in
    0.0.0.0 | '*' | '') REPLY=127.0.0.1 ;;
    ::) REPLY=::1 ;;
    esac
}

# Become one of the functions below for at most SECONDS: in a shell of its own, since connect and read may block.
# For a subshell: its pid is that of timeout, which takes the inner shell down with it.
dync_bounded() { # SECONDS FUNCTION ARGUMENT...
    local code
    # The text, and not the file: a bundle may be built again, or moved, while it runs.
    code=$(declare -f "$2" "${dync_asking[@]}")$'\n'"dync_mark=\$1; \"\$2\" \"\${@:3}\""
    exec timeout -s KILL "$1" "$BASH" -c "$code" dync "$dync_mark" "${@:2}" 6>&- 7>&- 8>&- 9>&- >/dev/null 2>&1
}
dync_asking=(
    dync_answers dync_redis dync_connect dync_key dync_listening dync_proc_address dync_whose dync_not_held dync_own
    dync_pids_of_session dync_pids_of_marked dync_pids_of_group dync_pids_of_unit dync_still
)

# Ask a process whether it is ready. Whoever else holds its port is asked nothing; a key is sent last, if at all: where
# the process has refused to answer without, and to the sockets that were seen to be its own. KEY_FILE `-`: a refusal
# says that it is ready.
# Status 0: ready; 1: not yet; 3: the port is another's; 4: it wants the key, and nobody can tell whose the port is.
dync_probe() { # HOST PORT PATH BODY KEY_FILE PROTOCOL CLAIM...
    local status=0 inodes
    dync_whose "$1" "$2" "${@:7}" || status=$?
    inodes=$REPLY
    if ((status == 1)); then
        dync_connect "$1" "$2" || return 1
        # Somebody answers: who came in between, or who is not listed, as in containers that show no sockets.
        status=0
        dync_whose "$1" "$2" "${@:7}" || status=$?
        inodes=$REPLY
    fi
    ((status != 2)) || return 3
    ((!status)) || inodes=''
    status=0
    if [[ $6 == redis ]]; then
        dync_redis "$1" "$2" '' '' "$inodes" || status=$?
        ((status == 0 || status == 2)) # that it wants a password says that it serves
        return
    fi
    dync_answers "$1" "$2" "$3" "$4" '' "$inodes" || status=$?
    ((status == 2)) && [[ -n $5 ]] || return $((status ? 1 : 0))
    [[ $5 != - ]] || return 0
    [[ -n $inodes ]] || return 4
    dync_answers "$1" "$2" "$3" "$4" "$5" "$inodes"
}

dync_connect() { # HOST PORT
    : <>"/dev/tcp/$1/$2"
}

# True if a GET, or a POST of BODY where there is one, is answered with 200; status 2 where a key is asked for.
dync_answers() { # HOST PORT PATH BODY KEY_FILE INODES: the last as those of dync_redis
    local status LC_ALL=C request=GET # the length below is in bytes
    [[ -z $4 ]] || request=POST
    exec 3<>"/dev/tcp/$1/$2" || return 1
    [[ -z $6 ]] || dync_still "$1" "$2" "$6" || return 1
    printf '%s %s HTTP/1.0\r\nHost: %s:%s\r\nAccept: */*\r\n' "$request" "$3" "$1" "$2" >&3
    [[ -z $4 ]] || printf 'Content-Type: application/json\r\nContent-Length: %d\r\n' "${#4}" >&3
    if [[ -n $5 ]]; then
        dync_key "$5" || return 1
        printf 'Authorization: Bearer %s\r\n' "$REPLY" >&3
    fi
    printf '\r\n%s' "$4" >&3
    IFS= read -r status <&3 || return 1
    [[ ! $status =~ ^HTTP/[0-9.]+\ 40[13]([^0-9]|$) ]] || return 2
    [[ $status =~ ^HTTP/[0-9.]+\ 200([^0-9]|$) ]]
}

dync_key() { # FILE: put in REPLY the key that it holds, or that a process was started with (/proc/PID/environ)
    if [[ $1 != /proc/*/environ ]]; then
        REPLY=$(<"$1")
        return
    fi
    while IFS= read -r -d '' REPLY; do
        [[ $REPLY != VLLM_API_KEY=* ]] || {
            REPLY=${REPLY#*=}
            return
        }
    done <"$1"
    return 1
}

# ---- launch.sh: start and watch ----------------------------------------------------------------------------------

dync_run() {
    local began name
    dync_tick
    began=$dync_now
    dync_start_guard
    dync_start_keeper
    while ((!dync_signal_at)); do
        dync_check_ended
        for name in "${dync_order[@]}"; do
            ((!dync_signal_at)) || break
            case ${dync_state[$name]} in
            waiting) ! dync_may_start "$name" || dync_start "$name" ;;
            starting) dync_check_ready "$name" ;;
            esac
        done
        dync_check_served "$began"
        dync_tick
    done
    dync_finish 0
}

dync_start_keeper() {
    [[ -n $dync_registrations ]] || return 0
    DYNC_LAUNCH=$dync_mark DYNC_PROCESS=keeper "${dync_with_us[@]}" \
        "$BASH" lib/service.sh keep "$dync_registrations" </dev/null 6>&- 7>&- 8>&- 9>&- &
    dync_keeper=$!
}

# Another process that ends what runs if this one is killed: it reads from descriptor 6 until that says that all is done,
# or ends without. It holds the lock as long as it works, in a session of its own, where no terminal's signal comes.
dync_start_guard() {
    local name longest=1
    for name in "${dync_order[@]}"; do
        ((dync_stop[$name] <= longest)) || longest=${dync_stop[$name]}
    done
    exec 6> >(exec setsid -- "$BASH" lib/service.sh guard "$dync_mark" "$longest" 7>&- 9>&- >>run/messages 2>&1)
    dync_guard=$!
}

dync_dismiss_guard() {
    [[ -n $dync_guard ]] || return 0
    printf 'done\n' >&6
    exec 6>&-
    wait "$dync_guard"
    dync_guard=''
} 2>/dev/null

dync_tick() { # Sleep without a child: a tenth of a second is also the longest that a signal waits.
    local up
    read -r -t 0.1 -u 9
    read -r up _ </proc/uptime
    dync_now=$((10#${up/./}))
}

dync_seconds() { printf -v REPLY '%d.%d s' $(($1 / 100)) $(($1 / 10 % 10)); } # put HUNDREDTHS in REPLY as text

dync_on_exit() { # no fork left, for example: bash's own words are in the file
    ((dync_finished)) || dync_error "launch.sh itself failed; run/messages says why"
}

dync_on_signal() { # SIGNAL
    if ((!dync_signal_at)); then
        dync_signal_at=$dync_now
        dync_say "SIG$1: stopping (once more to kill at once)"
    elif [[ $1 != HUP ]] && ((dync_now - dync_signal_at > 30)); then
        # Not at once: timeout(1) and a terminal's Ctrl-C under a wrapper deliver one request twice.
        dync_kill_all=1
    fi
}

# A process starts when those before it are ready. A cache server need only run: an engine asks for it after tens of
# seconds, and LMCache's connector waits for it up to 300 s (lmcache.mp.mq_timeout).
dync_may_start() {
    local other
    for other in ${dync_after[$1]}; do
        [[ ${dync_state[$other]} == ready || (-n ${dync_only_lmcache[$other]-} && ${dync_state[$other]} == starting) ]] ||
            return 1
    done
}

dync_start() {
    # The log is appended to, so that it may be truncated while the process runs. Without the exec the program would
    # ignore INT and QUIT, as asynchronous commands do. Descriptors 6 to 9 (guard, errors, lock, tick) stay here.
    (
        export DYNC_LAUNCH=$dync_mark DYNC_PROCESS=$1
        exec "${dync_with_us[@]}" setsid -- "$BASH" "bin/$1.sh"
    ) </dev/null >>"logs/$1.log" 2>&1 6>&- 7>&- 8>&- 9>&- &
    dync_pid[$1]=$!
    dync_note_started "$1" "${dync_pid[$1]}"
    dync_state[$1]=starting dync_began[$1]=$dync_now dync_probe[$1]='' dync_probe_at[$1]=$((dync_now + 20))
    dync_say "$1 started (pid ${dync_pid[$1]}, log logs/$1.log)"
}

# One probe at a time for each process, in the background: a server that never answers holds up nothing else.
dync_check_ready() {
    local probe=${dync_probe[$1]} took=$((dync_now - dync_began[$1])) status=0
    if [[ -n $probe ]] && ! kill -0 "$probe" 2>/dev/null; then
        dync_probe[$1]=''
        wait "$probe" || status=$?
        case $status in
        0)
            dync_state[$1]=ready
            dync_seconds "$took"
            dync_say "$1 ready after $REPLY"
            return
            ;;
        3) dync_check_own "$1" ;;
        4)
            dync_error "$1 wants its key, which is not sent: /proc/net/tcp does not show whose port ${dync_port[$1]} is"
            dync_finish 5
            ;;
        esac
    fi
    if ((took >= dync_timeout[$1] * 100)); then
        dync_reachable "${dync_host[$1]}"
        dync_error "$1 is not ready after ${dync_timeout[$1]} s: no status 200 from" \
            "$REPLY:${dync_port[$1]}${dync_path[$1]}"
        dync_log_tail "$1"
        dync_finish 5
    fi
    if [[ -z ${dync_probe[$1]} ]] && ((dync_now >= dync_probe_at[$1])); then
        dync_reachable "${dync_host[$1]}"
        # A posted request may have to be computed, and the first one between two engines waits for their handshake.
        dync_bounded $((${#dync_body[$1]} ? 120 : 5)) dync_probe "$REPLY" "${dync_port[$1]}" "${dync_path[$1]}" \
            "${dync_body[$1]}" "${dync_key_file[$1]}" "${dync_protocol[$1]}" session "${dync_pid[$1]}" "$1" </dev/null &
        dync_probe[$1]=$! dync_probe_at[$1]=$((dync_now + 50))
    fi
}

# A port that somebody else holds stays theirs: the process can never listen there.
dync_check_own() { # NAME
    local status=0
    kill -0 "${dync_pid[$1]}" 2>/dev/null || return 0 # it has ended, which is told of it
    dync_reachable "${dync_host[$1]}"
    dync_whose "$REPLY" "${dync_port[$1]}" session "${dync_pid[$1]}" "$1" || status=$?
    ((status == 2)) || return 0
    # shellcheck disable=SC2086  # an inode and a uid
    dync_holder $REPLY
    dync_error "$1 cannot become ready: port ${dync_port[$1]} is held by $REPLY; the end of logs/$1.log:"
    dync_log_tail "$1"
    dync_finish 5
}

dync_check_served() { # BEGAN
    ((!dync_served)) || return 0
    local name
    for name in "${dync_order[@]}"; do
        [[ ${dync_state[$name]} == ready ]] || return 0
    done
    dync_served=1
    dync_seconds $((dync_now - $1))
    dync_say "$dync_bundle_name serves at $dync_bundle_url after $REPLY"
    dync_say "to prove that it does what it was built for: dync verify $PWD"
}

dync_check_ended() {
    local name ended=()
    for name in "${dync_order[@]}"; do
        [[ ${dync_state[$name]} == waiting ]] || kill -0 "${dync_pid[$name]}" 2>/dev/null || ended+=("$name")
    done
    ((${#ended[@]})) || return 0
    # Wait before the blame: systemd signals launch.sh and its processes together, and then nobody failed.
    dync_tick
    ((!dync_signal_at)) || return 0
    for name in "${ended[@]}"; do
        dync_report_ended "$name"
    done
    dync_finish $((dync_served ? 6 : 4))
}

dync_report_ended() {
    local status=0 signal killed=''
    wait "${dync_pid[$1]}" || status=$?
    if ((status > 128)) && signal=$(kill -l "$status" 2>/dev/null); then
        killed=" (killed by SIG$signal)"
    fi
    dync_seconds $((dync_now - dync_began[$1]))
    dync_error "$1 ended with status $status$killed after $REPLY; the end of logs/$1.log:"
    dync_log_tail "$1"
}

dync_log_tail() { # bounded, without what steers a terminal, and with the carriage returns of progress bars as line ends
    local line
    tail -c 65536 -- "logs/$1.log" | tr '\r' '\n' | tr -d '\000-\010\013-\037\177' | tail -n 20 | while IFS= read -r line || [[ -n $line ]]; do
        printf '    %s\n' "$line"
    done >&"$dync_errors"
}

# ---- launch.sh: stop ---------------------------------------------------------------------------------------------

dync_finish() { # STATUS
    local index name left=1
    [[ -z $dync_keeper ]] || kill "$dync_keeper" 2>/dev/null # what processes take away now is meant
    for name in "${!dync_probe[@]}"; do
        [[ -z ${dync_probe[$name]} ]] || kill "${dync_probe[$name]}" 2>/dev/null
    done
    while ((left)); do
        left=0
        for ((index = ${#dync_order[@]} - 1; index >= 0; index--)); do
            name=${dync_order[index]}
            [[ ${dync_state[$name]} =~ ^(waiting|gone)$ ]] || dync_stop_step "$name" || left=1
        done
        dync_tick
    done
    # What has left its session carries the mark still.
    dync_find_left
    ((!${#dync_left[@]})) || dync_say "what is left behind is ended: pid ${dync_left[*]}"
    if dync_end_left 1; then
        dync_forget_started
    else
        dync_error "still there 10 s after SIGKILL: pid ${dync_left[*]}"
    fi
    dync_dismiss_guard
    wait
    dync_finished=1
    dync_say stopped
    exit "$1"
}

# Bring one process nearer to its end; true when nothing of its group is left. As under a unit's KillMode=mixed, the
# process alone is asked to end: its children would end at once, with what they still compute (vllm 0.32.0
# v1/executor/multiproc_executor.py, signal_handler). What it leaves behind is killed, here after a second.
dync_stop_step() {
    if ! dync_group_alive "${dync_pid[$1]}"; then
        dync_state[$1]=gone
    elif [[ -n ${dync_kill_at[$1]-} ]] && ((dync_now > dync_kill_at[$1] + 1000)); then
        dync_error "pid ${dync_pid[$1]} ($1) is still there 10 s after SIGKILL: a driver holds it"
        disown "${dync_pid[$1]}" 2>/dev/null # not waited for
        dync_state[$1]=gone
    elif ((dync_kill_all)) || dync_term_expired "$1"; then
        dync_kill "$1" "$1"
    elif ! kill -0 "${dync_pid[$1]}" 2>/dev/null; then
        : "${dync_left_at[$1]:=$dync_now}"
        ((dync_now < dync_left_at[$1] + 100)) || dync_kill "$1" "what $1 left behind"
    elif [[ -z ${dync_term_at[$1]-} ]] && dync_dependants_gone "$1"; then
        # An engine that still starts ignores TERM and has no request to finish.
        dync_grace[$1]=$((dync_stop[$1] * 100))
        ((dync_grace[$1] < 1000)) || [[ ${dync_state[$1]} == ready ]] || dync_grace[$1]=1000
        dync_term_at[$1]=$dync_now
        kill -s TERM "${dync_pid[$1]}" 2>/dev/null
    fi
    [[ ${dync_state[$1]} == gone ]]
}

dync_term_expired() {
    [[ -n ${dync_term_at[$1]-} ]] && ((dync_now >= dync_term_at[$1] + dync_grace[$1]))
}

dync_kill() { # NAME WHAT: the group, or the leader alone in the instant before its setsid
    [[ -n ${dync_kill_at[$1]-} ]] || dync_say "$2 is killed"
    : "${dync_kill_at[$1]:=$dync_now}"
    kill -s KILL -- "-${dync_pid[$1]}" 2>/dev/null || kill -s KILL "${dync_pid[$1]}" 2>/dev/null
}

dync_dependants_gone() {
    local name
    for name in "${dync_order[@]}"; do
        [[ " ${dync_after[$name]} " != *" $1 "* || ${dync_state[$name]} =~ ^(waiting|gone)$ ]] || return 1
    done
}

# True while a process of the group runs. A zombie left by a PID 1 that reaps nothing, as in many containers,
# keeps the group signallable for ever, so /proc has the last word.
dync_group_alive() { # PID
    ! kill -0 "$1" 2>/dev/null || return 0
    kill -0 -- "-$1" 2>/dev/null || return 1
    local file stat
    for file in /proc/[0-9]*/stat; do
        { IFS= read -r -d '' stat <"$file"; } 2>/dev/null
        [[ ! ${stat##*) } =~ ^[^ZX]\ [0-9]+\ $1\  ]] || return 0
    done
    return 1
}

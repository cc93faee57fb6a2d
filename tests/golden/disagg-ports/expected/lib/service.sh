# shellcheck shell=bash
# What the systemd units, and for `keep` launch.sh, run beside the deployment's own processes. Works in the bundle, or in
# the installed generation.
# usage: bash lib/service.sh run|gpus|folder|server|ready|serving|sweep|keep ARGUMENT...
set -uo pipefail
# shellcheck source=/dev/null
. lib/dync.sh
# shellcheck disable=SC2034  # dync_secret names it
dync_process=service

# Become a process that a unit cannot start as it stands: with a secret in its environment, or with text that systemd
# does not carry. Words are written for printf %b.
service_run() { # CREDENTIAL... -- NAME=VALUE... -- ARGV...
    local word decoded=()
    while IFS= read -r -d '' word; do
        dync_pass "${word%%=*}" # what the unit gave, and nothing that bash adds
    done <"/proc/$$/environ"
    until [[ $1 == -- ]]; do
        dync_secret "$1" "$CREDENTIALS_DIRECTORY/$1"
        shift
    done
    shift
    for word; do
        printf -v word %b "$word"
        decoded+=("$word")
    done
    dync_exec "${decoded[@]}"
}

# Wait until the driver shows every GPU: at boot, units start before the driver has made its devices.
service_gpus() { # WITHIN_S GPU...
    local -i give_up
    service_deadline "$1" && give_up=$REPLY
    ! type -P nvidia-modprobe >/dev/null || nvidia-modprobe -u -c 0 # no process below may load a module itself
    until service_gpus_shown "${@:2}"; do
        service_deadline 0
        ((REPLY < give_up)) || dync_fail 1 "nvidia-smi -L does not show GPU $service_missing after $1 s:" \
            "${service_shown:-nothing}"
        sleep 1
    done
}

service_gpus_shown() { # GPU...: ids as in `GPU 0:`, or UUIDs
    local gpu
    service_shown=$(nvidia-smi -L 2>&1)
    for gpu; do
        service_missing=$gpu
        [[ $'\n'$service_shown == *$'\n'"GPU $gpu:"* || $service_shown == *"UUID: $gpu"* ]] || return 1
    done
}

# Make a tier's folder ready for the process, and ask the server of one: see lib/dync.sh.
service_folder() { dync_folder "$@"; } # FOLDER KEEP_BYTES SHARED

service_server() { # HOST PORT USERNAME CREDENTIAL WITHIN_S REQUIRED FILE
    dync_server "${@:1:3}" "${4:+$CREDENTIALS_DIRECTORY/$4}" "${@:5}"
}

# Wait until the unit's main process answers, so that After= means ready. Without PATH it speaks Redis' protocol.
service_ready() { # WITHIN_S HOST PORT PATH BODY KEY_FILE
    local -i give_up
    service_deadline "$1" && give_up=$REPLY
    dync_reachable "$2"
    set -- "$1" "$REPLY" "${@:3}"
    until service_answers "${@:2}"; do
        kill -0 "$MAINPID" 2>/dev/null || dync_fail 1 "the process ended before it was ready"
        service_deadline 0
        ((REPLY < give_up)) || dync_fail 1 "not ready after $1 s: no status 200 from $2:$3$4"
        sleep 0.5
    done
}

# Wait until the deployment answers a completion, or one of its units is given up.
service_serving() { # WITHIN_S HOST PORT BODY CREDENTIAL UNIT...
    local -i give_up
    service_deadline "$1" && give_up=$REPLY
    dync_reachable "$2"
    set -- "$1" "$REPLY" "${@:3}"
    until service_answers "$2" "$3" /v1/completions "$4" "${5:+$CREDENTIALS_DIRECTORY/$5}"; do
        ! service_given_up "${@:6}" || dync_fail 1 "$REPLY has failed: journalctl -u $REPLY"
        service_deadline 0
        ((REPLY < give_up)) || dync_fail 1 "no completion from $2:$3 after $1 s"
        sleep 1
    done
}

service_answers() ( # HOST PORT PATH BODY KEY_FILE: what is posted may have to be computed
    if [[ -z $3 ]]; then
        service_redis_serves "$1" "$2"
    else
        dync_bounded $((${#4} ? 120 : 5)) dync_answers "$@"
    fi
)

# Without the password: systemd 252 does not let ExecStartPost= read credentials, and a refusal says that Redis serves.
service_redis_serves() { # HOST PORT
    local -i status=0
    (dync_bounded 5 dync_redis "$1" "$2" '' '') || status=$?
    ((status == 0 || status == 2))
}

service_given_up() { # UNIT...: put in REPLY one that systemd has stopped restarting
    local manager=()
    ((EUID == 0)) || [[ ! -S ${XDG_RUNTIME_DIR-}/systemd/private ]] || manager=(--user)
    for REPLY; do
        ! systemctl "${manager[@]}" is-failed --quiet "$REPLY" 2>/dev/null || return 0
    done
    return 1
}

# Free the shared memory of a killed process: Python's resource tracker, which would have, was killed with it, and
# RemoveIPC= acts only when the account's last unit stops. What no process has mapped or open is nobody's; it is listed
# before that is looked up, so that a segment which is just being made is left alone.
service_sweep() {
    local segment used segments=(/dev/shm/{psm_,lmcache}*)
    used=$'\n'$({
        cut -s -d/ -f2- /proc/[0-9]*/maps
        readlink /proc/[0-9]*/fd/* | cut -c2-
    } 2>/dev/null | grep ^dev/shm/ | sort -u)$'\n'
    for segment in "${segments[@]}"; do
        [[ ! -f $segment || ! -O $segment || $used == *$'\n'"${segment#/}"$'\n'* ]] || rm -f -- "$segment"
    done
}

# Give living processes their names back. Where processes find each other by files, an owner touches its files every 3 s,
# and whoever sees one that was not touched for 10 s deletes it; its owner never writes it again (Dynamo 1.6.1,
# lib/runtime/src/storage/kv/file.rs). After a pause of the host or a step of its clock, that hits the living: they serve
# on, and nobody finds them. So every file has a second link, and one that vanishes around a pause gets its name back,
# once: an owner that lives touches it again.
# Nor does an owner touch all: registering several endpoints at once, it forgets those of all but one (get_or_create_bucket
# looks and inserts under two locks; seen with 1.3.1 on 16 cores, where a worker was gone 10 s after it served). So what
# an owner registered is as fresh as the freshest of it.
service_keep() { # FOLDER
    local -i now last=0 pause_over=0
    local file kept=../${1##*/}.kept
    local -A put_back=() # name -> when it was touched here
    shopt -s nullglob globstar
    # By the folder's own path: a generation may be removed.
    { mkdir -p -- "$1" && cd -P -- "$1"; } || dync_fail 1 "$1 cannot be made"
    rm -rf -- "$kept"
    exec 9<> <(:) # a pipe that stays silent: a sleep without a child
    while :; do
        printf -v now '%(%s)T' -1
        ((!last || now - last <= 5)) || pause_over=$((now + 20))
        last=$now
        for file in "$kept"/**/*; do
            [[ ! -f $file ]] || service_keep_name "${file#"$kept/"}" "$kept" $((now < pause_over))
        done
        for file in **/*; do
            [[ ! -f $file || $file -ef $kept/$file ]] || {
                mkdir -p -- "$kept/${file%/*}" && ln -f -- "$file" "$kept/$file"
            } 2>/dev/null # gone in between
        done
        service_keep_together
        read -r -t 2 -u 9
    done
}

service_keep_together() { # Names end with %2F and their owner's number.
    local -A newest=() freshest=() touched=()
    local -i seconds
    local file owner
    while read -r seconds file; do
        owner=${file##*%2F} touched[$file]=$seconds
        ((seconds <= ${newest[$owner]:-0})) || newest[$owner]=$seconds freshest[$owner]=$file
    done < <(stat -c '%Y %n' -- **/*%2F* 2>/dev/null)
    for file in "${!touched[@]}"; do
        owner=${file##*%2F}
        ((${newest[$owner]} - ${touched[$file]} < 2)) || touch -c -r "${freshest[$owner]}" -- "$file"
    done
}

service_keep_name() { # FILE KEPT PAUSED
    [[ ! -e $1 ]] || return 0
    if (($3)) && [[ ${put_back[$1]-} != "$(stat -c %.Y -- "$2/$1")" ]]; then
        touch -- "$2/$1"
        put_back[$1]=$(stat -c %.Y -- "$2/$1")
        ln -- "$2/$1" "$1" && dync_say "this host paused or its clock was set: put back $1"
    else
        rm -f -- "$2/$1"
        unset "put_back[$1]"
    fi
}

service_deadline() { # SECONDS: put in REPLY the time since boot at which they have passed
    read -r REPLY _ </proc/uptime # never jumps, unlike the clock of a host that has just booted
    REPLY=$((${REPLY%.*} + $1))
}

"service_$1" "${@:2}"

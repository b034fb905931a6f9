#!/bin/sh
# Starts HAProxy for Ray Serve (RAY_SERVE_HAPROXY_BINARY_PATH) on a configuration that is closed: Ray's own opens a
# page of statistics and one of metrics on all interfaces, without a password, and lets every local user command it.
# Both pages are left out, and the admin socket is its owner's. A listener that isn't known ends the start. While no
# application is there, a request is told to come back (503), not that its path doesn't exist. A request is read before a
# gateway is asked, so that another can be asked where that one dies; what HAProxy itself says is JSON, as all errors.
set -eu
umask 077
config= previous=
for argument; do
    [ "$previous" = -f ] && config=$argument
    previous=$argument
done
[ -n "$config" ] || { echo "haproxy.sh: -f is missing: no configuration was given" >&2; exit 2; }
for folder in "$(dirname "$(dirname "$config")")" "$(dirname "$config")"; do
    [ -O "$folder" ] && [ ! -L "$folder" ] || { echo "haproxy.sh: $folder belongs to another user" >&2; exit 2; }
    chmod 700 "$folder"
done
away='{"error": {"message": "no gateway is there now; try again", "type": "server_error", "param": null, "code": "away"}}'
slow='{"error": {"message": "the request did not come in time", "type": "invalid_request_error", "param": null, "code": null}}'
awk '
    /^[a-z]/ { section = $1 " " $2 }
    section == "frontend prometheus" || section == "listen stats" { next }
    $1 == "stats" && $2 == "socket" { sub(/ mode [0-7]+/, " mode 600") }
    $1 == "bind" && section != "frontend http_frontend" {
        print "haproxy.sh: " section " would listen at " $2 " too: this version of Ray is not known" > "/dev/stderr"
        exit 3
    }
    section == "frontend http_frontend" && $1 == "bind" {
        print
        print "    option http-buffer-request"
        print "    timeout http-request " body_s "s"
        print "    http-error status 408 content-type application/json string " slow
        next
    }
    $1 == "errorfile" {
        print "    http-error status " $2 " content-type application/json hdr Retry-After 1 string " away
        next
    }
    section == "backend default_backend" && /http-request return/ {
        print "    http-request return status 503 content-type application/json hdr Retry-After 1 string " away
        next
    }
    { print }
' away="'$away'" slow="'$slow'" body_s="${RAYSAFE_BODY_S:-30}" "$config" > "$config.closed"
mv "$config.closed" "$config"
exec "${RAYSAFE_HAPROXY:?must name the HAProxy binary}" "$@"

#!/usr/bin/env bash
# Makes the certificates of tests/fixtures/tls: an authority that no machine knows, and a server's for `localhost` by it.
#     tests/reference/tls.sh      # needs openssl; they are good for a hundred years
set -euo pipefail
cd "$(dirname "$0")/../fixtures/tls"
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 "$@" 2>/dev/null; }
new -x509 -subj "/CN=authority of tests" -keyout authority.key -out authority.pem
new -x509 -subj "/CN=localhost" -addext "subjectAltName=DNS:localhost" -addext "basicConstraints=critical,CA:FALSE" \
    -CA authority.pem -CAkey authority.key -keyout server.key -out server.pem
openssl x509 -in server.pem -outform DER -out server.der
openssl pkey -in server.key -outform DER -out server_key.der
rm authority.key server.key server.pem # without its key, the authority makes no others

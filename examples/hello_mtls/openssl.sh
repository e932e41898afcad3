#!/bin/sh
# Makes with openssl (3.0 or later) what the README makes with `adit certs`: a CA, and P-256 certificates for all of
# this sample, under the names that `adit … --certs DIR` reads.
#
#     openssl.sh DIR                              all of it
#     openssl.sh DIR NAME USAGE ALTERNATIVE-NAMES one more certificate of that CA
set -eu

main() {
    dir=${1:?usage: openssl.sh DIR [NAME USAGE ALTERNATIVE-NAMES]}
    umask 077
    mkdir -p "$dir"
    cd "$dir"
    if [ $# -eq 4 ]; then
        certificate "$2" "$3" "$4"
        return
    fi

    # The trust domain in the CA, spiffe://adit, is the one that the hub lets in.
    key ca
    openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj '/CN=contacts sample CA' \
        -addext 'basicConstraints = critical, CA:TRUE' \
        -addext 'keyUsage = critical, keyCertSign, cRLSign' \
        -addext 'subjectAltName = URI:spiffe://adit' -out ca.pem

    # Servers are known by the hosts that they are dialled by; hubs, agents and clients by one URI each.
    certificate server-contacts serverAuth 'DNS:localhost, IP:127.0.0.1'
    certificate hub serverAuth 'URI:spiffe://adit/hub, DNS:localhost, IP:127.0.0.1'
    certificate agent-site-7 clientAuth 'URI:spiffe://adit/agent/site-7'
    certificate client-alice clientAuth 'URI:spiffe://adit/client/alice'
}

key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
}

# A key, a request that names its holder, and the CA's answer to it.
# The CA takes the names over from the request, which is ours: look at a stranger's before you sign it.
certificate() {
    key "$1"
    openssl req -new -key "$1.key" -subj "/CN=$1" -addext "subjectAltName = $3" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -sha256 -days 90 -copy_extensions copy \
        -extfile /dev/stdin -out "$1.pem" <<EXTENSIONS
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $2
EXTENSIONS
    rm "$1.csr"
}

main "$@"

#!/bin/sh
# Makes with openssl (3.0 or later) what the README makes with `adit certs`, with RSA keys of 4096 bits: the tunnel's CA
# and its hub, agent and client, and the map server's own CA with its server and the client that the agent is there.
#
#     openssl.sh TUNNEL-DIR MAP-DIR
set -eu

main() {
    usage='usage: openssl.sh TUNNEL-DIR MAP-DIR'
    tunnel=${1:?$usage} map=${2:?$usage}
    umask 077

    # Hubs, agents and clients are known by one URI each. This CA does not say whose trust domain it is for, so the hub
    # is told with --trust-domain.
    ca "$tunnel" 'tunnel sample CA'
    certificate "$tunnel" hub serverAuth 'URI:spiffe://maps.example/hub, DNS:localhost, IP:127.0.0.1'
    certificate "$tunnel" agent-orbit clientAuth 'URI:spiffe://maps.example/agent/orbit'
    certificate "$tunnel" client-viewer clientAuth 'URI:spiffe://maps.example/client/viewer'

    # The map server knows nothing of tunnels and their names.
    ca "$map" 'map sample CA'
    certificate "$map" server-map serverAuth 'DNS:localhost, IP:127.0.0.1'
    certificate "$map" client-orbit clientAuth 'DNS:orbit.maps.example'
}

key() {
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -quiet -out "$1"
}

# A CA: DIR COMMON-NAME
ca() {
    mkdir -p "$1"
    key "$1/ca.key"
    openssl req -x509 -new -key "$1/ca.key" -sha256 -days 3650 -subj "/CN=$2" \
        -addext 'basicConstraints = critical, CA:TRUE' \
        -addext 'keyUsage = critical, keyCertSign, cRLSign' -out "$1/ca.pem"
}

# A key, a request that names its holder, and the CA's answer to it: DIR NAME USAGE ALTERNATIVE-NAMES
# The CA takes the names over from the request, which is ours: look at a stranger's before you sign it.
certificate() {
    key "$1/$2.key"
    openssl req -new -key "$1/$2.key" -subj "/CN=$2" -addext "subjectAltName = $4" -out "$1/$2.csr"
    openssl x509 -req -in "$1/$2.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -sha256 -days 90 -copy_extensions copy \
        -extfile /dev/stdin -out "$1/$2.pem" <<EXTENSIONS
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $3
EXTENSIONS
    rm "$1/$2.csr"
}

main "$@"

"""The librdkafka options that the settings may hold.

Some options of librdkafka load a library or run a command: `plugin.library.paths`, `ssl.engine.location`,
`sasl.kerberos.kinit.cmd`. Whoever may write the settings would then run code in every process, so that only the options
listed here are accepted. Those that carry a delivery guarantee (`acks`, `enable.auto.commit`, ...) are not among them:
each process sets them itself.
"""

from collections.abc import Mapping

SECRET = frozenset(
    {
        "sasl.oauthbearer.client.secret",
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
    }
)
"""Options whose values are never printed, and never sent to a broker that another source of settings names."""

_ALLOWED = SECRET | {
    "api.version.request.timeout.ms",
    "broker.address.family",
    "broker.address.ttl",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "https.ca.location",
    "https.ca.pem",
    "linger.ms",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "message.copy.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.username",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.sigalgs.list",
    "sticky.partitioning.linger.ms",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
}
_UNVERIFIED = {
    "enable.ssl.certificate.verification": "false",
    "ssl.endpoint.identification.algorithm": "none",
    "enable.sasl.oauthbearer.unsecure.jwt": "true",
}


def check_options(options: Mapping[str, str]) -> None:
    """Accept only options that configure a connection.

    Raises:
        ValueError: An option is not on the list. The message has its name and not its value.
    """
    if unknown := sorted(options.keys() - _ALLOWED):
        names = ", ".join(map(repr, unknown))
        raise ValueError(
            f"{names} is not accepted: only options of the connection are, such as security.protocol, sasl.username or "
            "ssl.ca.location; options that load a library, run a command or change delivery guarantees are not"
        )
    # librdkafka hands the principal and the key table to a shell.
    if any(options.get(name, "").upper() == "GSSAPI" for name in ("sasl.mechanism", "sasl.mechanisms")):
        raise ValueError("the mechanism GSSAPI runs a command (kinit): use SCRAM-SHA-512, PLAIN or OAUTHBEARER")


def plaintext_reason(options: Mapping[str, str]) -> str:
    """Why a connection with these options is not safe from readers and impostors; empty if it is."""
    protocol = options.get("security.protocol", "PLAINTEXT").upper()
    if protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        return f"security.protocol is {protocol}"
    for name, value in _UNVERIFIED.items():
        if options.get(name, "").lower() == value:
            return f"{name} is {value}"
    return ""


def without_secrets(options: Mapping[str, str]) -> dict[str, str]:
    """The options with secret values masked, for messages."""
    return {name: "**********" if name in SECRET else value for name, value in options.items()}

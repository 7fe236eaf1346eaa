"""Events, headers and topics: the wire format."""

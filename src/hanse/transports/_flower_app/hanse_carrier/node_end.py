"""The ClientApp: hands a parcel to the node that runs beside the SuperNode, and takes back what the node has to say."""

from __future__ import annotations

import socket

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hanse_carrier.parcels import parcel_in, receive, records, send


def carry(message: Message, context: Context) -> Message:
    """One exchange with the node."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(context.node_config["line"]))
        send(line, parcel_in(message.content))
        return Message(records(receive(line)), reply_to=message)


app = ClientApp()
app.query()(carry)

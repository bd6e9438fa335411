"""A stand-in for Session Manager under SSH: a connection to a port of an instance.

The ProxyCommand of the tests. It asks the AWS API for the instance's address, as Session Manager
would know it, and connects there.

Usage: session_stand_in.py INSTANCE_ID PORT
"""

import os
import shutil
import socket
import sys
import threading

import boto3


def main() -> None:
    instance, port = sys.argv[1:]
    found = boto3.client("ec2").describe_instances(InstanceIds=[instance])
    address = found["Reservations"][0]["Instances"][0]["PrivateIpAddress"]
    with socket.create_connection((address, int(port)), timeout=60) as connection:
        connection.settimeout(None)

        def send() -> None:
            with open(0, "rb", buffering=0) as source, connection.makefile("wb", 0) as target:
                shutil.copyfileobj(source, target)
            connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        while data := connection.recv(65536):
            os.write(1, data)


if __name__ == "__main__":
    main()

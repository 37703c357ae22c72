# Python's sockets over loopback, with themselves: each line says what a call gave.
import encodings.idna  # the program has no files to load it from later
import socket

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        print("listening, with a port:", address[1] != 0)
        client = socket.create_connection(address)
        server, peer = listener.accept()
        print("from the client:", peer == client.getsockname())
        client.sendall(b"question")
        print("the server reads", server.recv(100))
        server.sendall(b"answer")
        print("the client reads", client.recv(100))
        client.shutdown(socket.SHUT_WR)
        print("the server reads", server.recv(100))
        server.close()
        print("the client reads", client.recv(100))
        client.close()
        listener.close()
        try:
            socket.create_connection(address)
        except ConnectionRefusedError as error:
            print("nobody listens:", type(error).__name__)

        left = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        right = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for each in (left, right):
            each.bind(("127.0.0.1", 0))
        right.sendto(b"datagram", left.getsockname())
        data, peer = left.recvfrom(100)
        print("a datagram:", data, peer == right.getsockname())
        print("localhost:", socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)[0][4])

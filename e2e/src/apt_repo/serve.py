"""Serves the current directory over HTTPS on loopback until stdin ends; the port is the first line of stdout.

Arguments: certificate, key."""

import http.server
import ssl
import sys
import threading


class Server(http.server.ThreadingHTTPServer):
    def shutdown_request(self, request):
        # Without TLS's own goodbye strict clients take the end of a connection for an attack.
        try:
            request.unwrap()
        except OSError:
            pass
        super().shutdown_request(request)


class Handler(http.server.SimpleHTTPRequestHandler):
    # Clients keep their connection over several files.
    protocol_version = "HTTP/1.1"


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = Server(("127.0.0.1", 0), Handler)
# The handshake belongs to the connection's own thread: a silent client would hold up all others.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
# Ends with whoever started it, even when that was killed.
sys.stdin.read()

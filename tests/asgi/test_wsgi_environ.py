"""The environ of WSGI (PEP 3333, RFC 3875): what it has of a request, and what it never has."""

from ipaddress import ip_network

import pytest

from asgi_master.asgi.scope import ForwardedScopes, HttpScopes
from asgi_master.asgi.wsgi.environ import Environs, field_key
from asgi_master.http.forwarded import Forwarded, Trust
from asgi_master.http.message import Request

WRAPPER = object()


def request(target=b"/", headers=(), *, method="GET", version="1.1"):
    path, _, query = target.partition(b"?")
    return Request(method, target, path, query, list(headers), version)


def environ(made, *, environs=None, scopes=None, **ends):
    ends = {
        "client": ("10.0.0.1", 5),
        "server": ("10.0.0.2", 8000),
        "scheme": "http",
        "root_path": "",
        **ends,
    }
    environs = environs or Environs(multithread=True, multiprocess=False, file_wrapper=WRAPPER)
    return environs.environ(scopes or HttpScopes(**ends), made)


def test_all_of_it():
    assert environ(request(b"/a?b=1", [(b"host", b"x")])) == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b=1",
        "REQUEST_URI": "/a?b=1",
        "RAW_URI": "/a?b=1",
        "SERVER_NAME": "10.0.0.2",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "asgi-master",
        "REMOTE_ADDR": "10.0.0.1",
        "REMOTE_PORT": "5",
        "HTTP_HOST": "x",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": WRAPPER,
    }


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"/a%20b", "/a b"),
        (b"/%C3%A9/%e2%82%ac", "/\xc3\xa9/\xe2\x82\xac"),
        (b"/%ff%00", "/\xff\x00"),
        (b"/%zz%", "/%zz%"),
        (b"/a%2Fb", "/a/b"),
        (b"//a", "//a"),
    ],
)
def test_each_character_of_the_path_is_a_byte(target, path):
    seen = environ(request(target))
    assert (seen["PATH_INFO"], seen["REQUEST_URI"]) == (path, target.decode())


def test_a_request_of_no_path():
    seen = environ(request(b"*", method="OPTIONS"))
    assert (seen["REQUEST_METHOD"], seen["PATH_INFO"], seen["REQUEST_URI"]) == ("OPTIONS", "", "*")


def test_where_the_application_is_mounted():
    seen = environ(request(b"/a"), root_path="/é")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/\xc3\xa9", "/a")


@pytest.mark.parametrize(
    ("server", "scheme", "name", "port"),
    [
        (("127.0.0.1", 80), "http", "127.0.0.1", "80"),
        (("::1", 8443), "https", "[::1]", "8443"),
        (("/run/app.sock", None), "http", "localhost", "80"),
        (("/run/app.sock", None), "https", "localhost", "443"),
        (None, "http", "localhost", "80"),
    ],
)
def test_the_servers_name_is_that_of_the_bind(server, scheme, name, port):
    seen = environ(request(), server=server, scheme=scheme)
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"], seen["wsgi.url_scheme"]) == (name, port, scheme)


def test_a_client_that_is_not_known():
    seen = environ(request(), client=None)
    assert (seen["REMOTE_ADDR"], "REMOTE_PORT" in seen) == ("", False)


def test_the_port_of_a_client_that_a_proxy_did_not_name():
    assert environ(request(), client=("1.2.3.4", None))["REMOTE_PORT"] == "0"


@pytest.mark.parametrize(
    ("version", "protocol"), [("1.0", "HTTP/1.0"), ("1.1", "HTTP/1.1"), ("2", "HTTP/2.0")]
)
def test_the_protocol(version, protocol):
    assert environ(request(version=version))["SERVER_PROTOCOL"] == protocol


def test_header_fields():
    seen = environ(
        request(
            headers=[
                (b"content-type", b"a/b"),
                (b"content-length", b"5"),
                (b"content-length", b"5"),
                (b"accept", b"x"),
                (b"x-latin", b"\xe9\xff"),
                (b"accept", b"y"),
                (b"cookie", b"a=1"),
                (b"cookie", b"b=2"),
                (b"remote-user", b"root"),
            ]
        )
    )
    assert {name: seen[name] for name in seen if name.startswith(("HTTP_", "CONTENT_", "REMOTE_U"))} == {
        "CONTENT_TYPE": "a/b",
        "CONTENT_LENGTH": "5",
        "HTTP_ACCEPT": "x,y",
        "HTTP_X_LATIN": "\xe9\xff",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_REMOTE_USER": "root",
    }


def test_what_would_pass_for_another_field_is_left_out():
    fields = [
        (b"x_forwarded-for", b"1"),
        (b"content_length", b"9"),
        (b"proxy", b"http://evil"),
        (b"a_b", b"1"),
    ]
    for _ in range(2):
        seen = environ(request(headers=fields))
        assert not [name for name in seen if name.startswith(("HTTP_", "CONTENT_"))]


def test_keys_of_fields():
    assert field_key(b"x-forwarded-for") == "HTTP_X_FORWARDED_FOR"
    assert field_key(b"content-type") == "CONTENT_TYPE"
    assert field_key(b"proxy") is field_key(b"x_y") is None


def test_what_a_trusted_proxy_says():
    forwarded = Forwarded(Trust([ip_network("10.0.0.1")]), prefix=True)
    scopes = ForwardedScopes(
        forwarded, client=("10.0.0.1", 5), server=("10.0.0.2", 80), scheme="http", root_path="/own"
    )
    fields = [
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-prefix", b"/caf%C3%A9"),
    ]
    seen = environ(request(b"/a", fields), scopes=scopes)
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"], seen["wsgi.url_scheme"]) == ("1.2.3.4", "0", "https")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/caf\xc3\xa9", "/a")
    seen = environ(request(b"/a"), scopes=scopes)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["SCRIPT_NAME"]) == ("10.0.0.1", "http", "/own")


def test_a_request_that_is_repeated_has_an_environ_of_its_own():
    environs = Environs(multithread=False, multiprocess=True, file_wrapper=WRAPPER)
    scopes = HttpScopes(client=None, server=None, scheme="http", root_path="")
    repeated = request(b"/a", [(b"x", b"1")])
    first = environ(repeated, environs=environs, scopes=scopes)
    known = first.copy()
    first["HTTP_X"] = first["added"] = "changed"
    assert environ(repeated, environs=environs, scopes=scopes) == known
    assert environ(request(b"/b"), environs=environs, scopes=scopes)["PATH_INFO"] == "/b"
    assert scopes.of_connection(None, None).environ is None

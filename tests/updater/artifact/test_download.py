"""From base URL to proven tarball: the four md5 cases, sha256, and servers that lie."""

import gzip
import hashlib
import os
from typing import NamedTuple

import pytest

from helpers.servers import Server, answer, drip, raw, serving
from updater.artifact.download import Expected, Terms, expected_digest, fetch
from updater.errors import Refused, TryLater
from updater.net.http import Http
from updater.wire.heartbeat import Desired, desired_problem

DATA = b"a tarball" * 1000
MD5 = hashlib.md5(DATA).hexdigest()
SHA256 = hashlib.sha256(DATA).hexdigest()
LINE = f"{MD5}  agent-1.tar.gz\n".encode()


@pytest.fixture
def http():
    return Http()


def order(base, **fields):
    return Desired("agent", "1", base, cmd="start", **fields)


class Got(NamedTuple):
    """What the one who unpacks would read, and what was said of it."""

    data: bytes
    size: int
    md5: str
    sha256: str


def get(http, desired, tmp_path, within=1.3, check=lambda: None):
    expected = expected_digest(http, desired, 5)
    to = tmp_path / "downloads" / "agent.part"
    with fetch(http, desired, expected, to, Terms(within, check=check)) as fetched:
        fetched.file.seek(0)
        return Got(fetched.file.read(), fetched.size, fetched.md5, fetched.sha256)


def paths(server):
    return [request.split(b" ")[1].decode() for request in server.requests]


def test_a_blank_md5_means_the_digest_file_beside_the_tarball(http, tmp_path):
    with serving(answer(LINE), answer(DATA)) as server:
        fetched = get(http, order(f"{server.url}/base/"), tmp_path)
    assert paths(server) == ["/base/agent-1.tar.gz.md5", "/base/agent-1.tar.gz"]
    assert (fetched.data, fetched.md5, fetched.sha256, fetched.size) == (DATA, MD5, SHA256, len(DATA))


def test_an_md5_url_is_the_base_of_the_digest_file(http, tmp_path):
    with serving(answer(LINE)) as digests, serving(answer(DATA)) as server:
        get(http, order(server.url, md5=f"{digests.url}/md5"), tmp_path)
    assert paths(digests) == ["/md5/agent-1.tar.gz.md5"]


def test_32_hex_digits_are_the_digest_itself(http, tmp_path):
    with serving(answer(DATA)) as server:
        get(http, order(server.url, md5=MD5.upper()), tmp_path)
    assert paths(server) == ["/agent-1.tar.gz"]


def test_a_missing_digest_file_is_refused(http, tmp_path):
    with (
        serving(answer(b"no", "404 Not Found")) as server,
        pytest.raises(Refused, match=r"no digest file: .*\.md5 answered 404"),
    ):
        get(http, order(server.url), tmp_path)


def test_sha256_is_preferred_to_md5(http, tmp_path):
    with serving(answer(DATA)) as server:
        get(http, order(server.url, md5="0" * 32, sha256=SHA256), tmp_path)
    assert paths(server) == ["/agent-1.tar.gz"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"md5": MD5}, "the record's md5"),
        ({"sha256": SHA256}, "the record's sha256"),
        ({}, "at the tarball's URL"),
        ({"md5": "URL"}, "at the record's md5 URL"),
    ],
)
def test_the_log_can_say_which_digest_was_used(http, fields, words):
    with serving(answer(LINE)) as server:
        fields = {key: server.url if value == "URL" else value for key, value in fields.items()}
        assert words in expected_digest(http, order(server.url, **fields), 5).source


DIGEST_FILES = {
    "as md5sum prints it": LINE,
    "a binary mark": f"{MD5} *agent-1.tar.gz\n".encode(),
    "a path before the name": f"{MD5}  ./dist/agent-1.tar.gz\n".encode(),
    "the digest alone": MD5.encode(),
    "capitals and CRLF": f"{MD5.upper()}  agent-1.tar.gz\r\n".encode(),
    "among others": b"0" * 32 + b"  other-1.tar.gz\n" + LINE,
    "one blank, as md5 -r": f"{MD5} agent-1.tar.gz\n".encode(),
    "BSD's md5": f"MD5 (agent-1.tar.gz) = {MD5}\n".encode(),
    "BSD's md5 of a path": f"MD5 (/srv/dist/agent-1.tar.gz) = {MD5}\n".encode(),
    "openssl of old": f"MD5(agent-1.tar.gz)= {MD5}\n".encode(),
    "openssl of today": f"md5(dist/agent-1.tar.gz)= {MD5}\n".encode(),
    "openssl through a pipe": f"MD5(stdin)= {MD5}\n".encode(),
    "openssl of a long time ago through a pipe": f"(stdin)= {MD5}\n".encode(),
    "md5sum through a pipe": f"{MD5}  -\n".encode(),
    "a byte order mark": b"\xef\xbb\xbf" + LINE,
    "as a Windows shell redirects": f"{MD5}  agent-1.tar.gz\r\n".encode("utf-16"),
    "a Windows path": f"{MD5} *dist\\agent-1.tar.gz\r\n".encode(),
    "a path that md5sum escaped": f"\\{MD5}  a\\\\b/agent-1.tar.gz\n".encode(),
    "with comments": b"# made by hand\n\n" + LINE,
    "a table of PowerShell's": f"\r\nAlgorithm       Hash{' ' * 67}Path\r\n---------       ----{' ' * 67}----\r\n"
    f"MD5             {MD5.upper()}{' ' * 39}C:\\my dist\\agent-1.tar.gz\r\n\r\n\r\n".encode("utf-16"),
    "a table among others'": f"MD5  {'A' * 32}  C:\\other-1.tar.gz\r\nMD5  {MD5.upper()}  C:\\agent-1.tar.gz\r\n".encode(),
    "PowerShell's as it does unasked": f"SHA256          {SHA256.upper()}       C:\\agent-1.tar.gz\r\n".encode(
        "utf-16"
    ),
    "a list of PowerShell's": f"Algorithm : MD5\r\nHash      : {MD5.upper()}\r\nPath      : C:\\agent-1.tar.gz\r\n".encode(),
    "CSV": f'"Algorithm","Hash","Path"\r\n"MD5","{MD5.upper()}","C:\\dist\\agent-1.tar.gz"\r\n'.encode(),
    "UTF-16 without a mark": f"{MD5}  agent-1.tar.gz\r\n".encode("utf-16-le"),
    "big-endian UTF-16 without a mark": f"{MD5}  agent-1.tar.gz\r\n".encode("utf-16-be"),
    "a name in quotes": f'{MD5} *"agent-1.tar.gz"\n'.encode(),
    "a path in quotes": f"{MD5}  'my dist/agent-1.tar.gz'\n".encode(),
    "a sha256": f"{SHA256}  agent-1.tar.gz\n".encode(),
    "several kinds of digest": f"SHA256 (agent-1.tar.gz) = {SHA256}\nMD5 (agent-1.tar.gz) = {MD5}\n".encode(),
}


@pytest.mark.parametrize("text", DIGEST_FILES.values(), ids=DIGEST_FILES.keys())
def test_digest_files_are_read_as_md5sum_writes_them(http, tmp_path, text):
    with serving(answer(text), answer(DATA)) as server:
        assert get(http, order(server.url), tmp_path).md5 == MD5


BAD_DIGEST_FILES = {
    "empty": b"",
    "a page": b"<html>log in</html>",
    "of another file": b"0" * 32 + b"  other-1.tar.gz\n",
    "a sha256 of another file": SHA256.encode() + b"  other-1.tar.gz\n",
    "a sha1": b"a" * 40 + b"  agent-1.tar.gz\n",
    "two digests of one file in a line": f"{MD5} {MD5} agent-1.tar.gz\n".encode(),
    "a table with a file that only ends like it": f"MD5  {MD5}  C:\\my-agent-1.tar.gz\r\n".encode("utf-16"),
    "not text": b"\xff\xfe\x00",
    "of a file that only ends like it": f"{MD5}  my-agent-1.tar.gz\n".encode(),
    "of another file by BSD's md5": f"MD5 (other-1.tar.gz) = {MD5}\n".encode(),
    "two without a name": f"{MD5}\n{MD5}\n".encode(),
}


ENCODINGS = [
    "gzip",
    "x-gzip",
    "GZIP",
    "identity",
    "aws-chunked",
    "gzip, aws-chunked",
    "utf-8",
    "application/x-gzip",
    "br",
]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_tarball_that_is_called_encoded_is_taken_as_the_bytes_it_is(http, tmp_path, encoding):
    """Servers say so by the name's end, of the digest's file as well (mod_mime counts every part of `x.tar.gz.md5`); stores
    say what came with the upload."""
    said = f"Content-Encoding: {encoding}"
    with serving(answer(LINE, "200 OK", said), answer(DATA, "200 OK", said)) as server:
        assert get(http, order(server.url), tmp_path).data == DATA


def test_a_tarball_that_was_packed_once_more_on_the_way_is_refused_by_its_digest(http, tmp_path):
    packed = gzip.compress(DATA)
    with (
        serving(answer(packed, "200 OK", "Content-Encoding: gzip")) as server,
        pytest.raises(Refused, match=rf"expected {MD5} .*: {len(packed)} bytes came"),
    ):
        get(http, order(server.url, md5=MD5), tmp_path)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_what_a_server_did_to_a_file_is_named_when_it_is_not_the_one_that_was_wanted(http, tmp_path, encoding):
    said = f"Content-Encoding: {encoding}"
    with serving(answer(b"packed", "200 OK", said)) as server:
        whence = f"^{server.url}/agent-1.tar.gz \\(which calls it {encoding}-encoded\\) has md5 "
        with pytest.raises(Refused, match=whence):
            get(http, order(server.url, md5=MD5), tmp_path)
        whence = f"^{server.url}/agent-1.tar.gz.md5 \\(which calls it {encoding}-encoded\\) has no md5 of "
        with pytest.raises(Refused, match=whence):
            get(http, order(server.url), tmp_path)


LATE_ERRORS = {
    "a digest file without end": (answer(b" " * 70_000), {}, "the answer is longer than 65536 bytes"),
    "no length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), {"md5": MD5}, "its Content-Length is not"),
    "no file": (answer(b"", "416 Range Not Satisfiable"), {"md5": MD5}, "answered 416"),
}


@pytest.mark.parametrize(("say", "fields", "words"), LATE_ERRORS.values(), ids=LATE_ERRORS.keys())
def test_errors_of_a_body_name_the_host_and_the_proxy_too(http, tmp_path, monkeypatch, say, fields, words):
    with serving(say) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        through = f"http://releases.example/agent-1.tar.gz.*, through the proxy {proxy.url.removeprefix('http://')}"
        with pytest.raises((Refused, TryLater), match=f"^{through}:? {words}"):
            get(http, order("http://releases.example", **fields), tmp_path)


def test_a_download_that_is_too_slow_names_the_host_that_a_redirect_led_to(http, tmp_path):
    slow = Server([])
    slow.says = [drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + DATA, slow.stop, every=0.02)]
    terms = Terms(within=1.5, min_speed=1000, slow_after=0.2)
    with slow.running(), serving(answer(b"", "302 Found", f"Location: {slow.url}/o")) as server:
        words = f"^{server.url}/agent-1.tar.gz, redirected to {slow.url}/o: only .* bytes a second came"
        one, expected = order(server.url), Expected("md5", MD5, "test")
        with pytest.raises(TryLater, match=words), fetch(http, one, expected, tmp_path / "downloads" / "part", terms):
            pass


@pytest.mark.parametrize(
    ("version", "quoted"),
    [("1.0+git", "1.0%2Bgit"), ("1.0~rc1", "1.0~rc1"), ("1=2", "1%3D2"), ("1.0-2_3", "1.0-2_3")],
)
def test_versions_are_quoted_in_the_urls_of_tarball_digest_and_mirrors(http, tmp_path, version, quoted):
    line = f"{MD5}  agent-{version}.tar.gz\n".encode()
    with serving(answer(line), answer(b"", "404 Not Found"), answer(DATA)) as server:
        asked_for = Desired("agent", version, f"{server.url}/a+b", cmd="start", mirrors=(f"{server.url}/mirror",))
        assert desired_problem(asked_for) == ""
        assert get(http, asked_for, tmp_path, within=5).data == DATA
    file = f"agent-{quoted}.tar.gz"
    assert paths(server) == [f"/a+b/{file}.md5", f"/a+b/{file}", f"/mirror/{file}"]


def test_errors_name_the_host_that_a_redirect_led_to_and_no_signature(http, tmp_path):
    with serving(answer(b"", "403 Forbidden")) as store:
        away = answer(b"", "302 Found", f"Location: {store.url}/o?sig=secret")
        words = f"^no tarball: .*, redirected to {store.url}/o answered 403$"
        with serving(away) as server, pytest.raises(Refused, match=words):
            get(http, order(server.url, md5=MD5), tmp_path)
    with serving(answer(b"other")) as store:
        away = answer(b"", "302 Found", f"Location: {store.url}/o?sig=secret")
        with serving(away) as server, pytest.raises(Refused, match=f"redirected to {store.url}/o has md5") as caught:
            get(http, order(server.url, md5=MD5), tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", BAD_DIGEST_FILES.values(), ids=BAD_DIGEST_FILES.keys())
def test_a_digest_file_without_the_digest_is_refused(http, tmp_path, text):
    with serving(answer(text), answer(DATA)) as server, pytest.raises(Refused, match=r"has no md5 of agent-1\.tar\.gz"):
        get(http, order(server.url), tmp_path)
    assert len(server.requests) == 1, "the tarball was not asked for"


def left(tmp_path):
    return [p.name for p in tmp_path.rglob("*") if p.is_file()]


def test_a_wrong_digest_is_refused_with_both_and_nothing_is_left(http, tmp_path):
    with (
        serving(answer(DATA[:-1] + b"!")) as server,
        pytest.raises(Refused, match=rf"expected {MD5} \(the record's md5\)"),
    ):
        get(http, order(server.url, md5=MD5), tmp_path)
    assert left(tmp_path) == []


def test_what_is_handed_on_is_the_file_that_was_hashed_whatever_lies_at_its_path_then(http, tmp_path):
    evil = tmp_path / "evil"
    evil.write_bytes(b"evil")
    to = tmp_path / "downloads" / "agent.part"
    with serving(answer(DATA)) as server:
        asked_for = order(server.url, md5=MD5)
        with fetch(http, asked_for, expected_digest(http, asked_for, 5), to, Terms(10)) as fetched:
            os.replace(evil, to)
            fetched.file.seek(0)
            assert fetched.file.read() == DATA
            assert to.read_bytes() == b"evil"


@pytest.mark.parametrize("plant", ["a symlink", "a directory", "a FIFO"])
def test_what_is_planted_in_the_place_of_a_download_is_neither_followed_nor_waited_for(http, tmp_path, plant):
    part = tmp_path / "downloads" / "agent.part"
    part.parent.mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    if plant == "a symlink":
        part.symlink_to(outside)
    elif plant == "a directory":
        (part / "below").mkdir(parents=True)
    else:
        os.mkfifo(part)
    part.with_name("agent.part.validator").write_text('"one"')
    with serving(answer(DATA)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path).data == DATA
    assert "Range" not in asked(server.requests[0])
    assert outside.read_bytes() == b"untouched"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", Refused),
        ("403 Forbidden", Refused),
        ("204 No Content", Refused),
        ("503 Busy", TryLater),
        ("429 Slow", TryLater),
    ],
)
def test_other_answers_than_200_are_errors(http, tmp_path, status, error):
    with serving(answer(DATA, status)) as server, pytest.raises(error, match=f"answered {status[:3]}"):
        get(http, order(server.url, md5=MD5), tmp_path)
    assert left(tmp_path) == []


def rest_from(position, validator='ETag: "one"'):
    return answer(
        DATA[position:],
        "206 Partial Content",
        f"Content-Range: bytes {position}-{len(DATA) - 1}/{len(DATA)}",
        validator,
    )


def cut(position, validator='ETag: "one"'):
    return answer(DATA[:position], "200 OK", validator, length=len(DATA))


def asked(request):
    head = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return {line.partition(": ")[0]: line.partition(": ")[2] for line in head[1:]}


@pytest.mark.parametrize("validator", ['ETag: "one"', "Last-Modified: Fri, 20 Nov 2026 00:00:00 GMT"])
def test_a_cut_download_goes_on_where_it_ended(http, tmp_path, validator):
    with serving(cut(5000, validator), rest_from(5000)) as server:
        fetched = get(http, order(server.url, md5=MD5), tmp_path, within=10)
    assert fetched.data == DATA
    first, second = map(asked, server.requests)
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == ("bytes=5000-", validator.partition(": ")[2])
    assert left(tmp_path) == ["agent.part"], "the validator goes with the download's end"


def test_a_download_cut_in_one_cycle_goes_on_in_the_next(http, tmp_path):
    with serving(cut(5000)) as server, pytest.raises(TryLater):
        get(http, order(server.url, md5=MD5), tmp_path)
    with serving(rest_from(5000)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path).data == DATA


def test_a_server_that_knows_no_ranges_sends_it_all_again(http, tmp_path):
    with serving(cut(5000), answer(DATA)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path, within=10).size == len(DATA)


def test_without_a_validator_a_cut_download_begins_anew(http, tmp_path):
    with serving(answer(DATA[:5000], length=len(DATA)), answer(DATA)) as server:
        get(http, order(server.url, md5=MD5), tmp_path, within=10)
    assert "Range" not in asked(server.requests[1])


def test_a_weak_validator_is_none(http, tmp_path):
    with serving(cut(5000, 'ETag: W/"one"'), answer(DATA)) as server:
        get(http, order(server.url, md5=MD5), tmp_path, within=10)
    assert "Range" not in asked(server.requests[1])


ODD_VALIDATORS = {
    "of 1,025 bytes": 'ETag: "' + "x" * 1023 + '"',
    "of 8 KB": 'ETag: "' + "x" * 8000 + '"',
    "with a quote inside": 'ETag: "a"b"',
    "with an accent": 'ETag: "caf\u00e9"',
    "of letters that are none": "ETag: \u00e9",
    "a long date": "Last-Modified: Fri, " + "2" * 2000,
    "a date with a tab": "Last-Modified: Fri,\t20 Nov 2026 00:00:00 GMT",
}


@pytest.mark.parametrize("validator", ODD_VALIDATORS.values(), ids=ODD_VALIDATORS.keys())
def test_a_validator_that_is_long_or_odd_is_not_kept_and_wedges_nothing(http, tmp_path, validator):
    with serving(cut(5000, validator)) as server, pytest.raises(TryLater):
        get(http, order(server.url, md5=MD5), tmp_path)
    assert left(tmp_path) == ["agent.part"]
    with serving(answer(DATA)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path).data == DATA
    assert "Range" not in asked(server.requests[0])


def test_the_longest_validator_that_is_kept_is_read_back(http, tmp_path):
    longest = 'ETag: "' + "x" * 1022 + '"'
    with serving(cut(5000, longest), rest_from(5000)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path, within=10).data == DATA
    assert asked(server.requests[1])["If-Range"] == longest.removeprefix("ETag: ")


UNREADABLE = {
    "too long": b'"' + b"x" * 1024 + b'"',
    "empty": b"",
    "a line break in it": b'"a\r\nX: y"',
    "not ASCII": b'"\xe9"',
    "a symlink": None,
    "a directory": None,
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_validator_means_a_fresh_download(http, tmp_path, kind):
    part = tmp_path / "downloads" / "agent.part"
    part.parent.mkdir()
    part.write_bytes(DATA[:5000])
    validator = part.with_name("agent.part.validator")
    if kind == "a directory":
        validator.mkdir()
    elif kind == "a symlink":
        validator.symlink_to(part)
    else:
        validator.write_bytes(UNREADABLE[kind])
    with serving(answer(DATA, "200 OK", 'ETag: "two"')) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path).data == DATA
    assert "Range" not in asked(server.requests[0])
    assert left(tmp_path) == ["agent.part"]


def test_a_part_of_another_file_is_thrown_away_and_not_blamed_on_the_release(http, tmp_path):
    with serving(
        answer(b"x" * 5000, "200 OK", 'ETag: "one"', length=len(DATA)), rest_from(5000), answer(DATA)
    ) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path, within=10).data == DATA


def test_another_range_than_asked_for_is_not_joined(http, tmp_path):
    with serving(cut(5000), rest_from(4000), answer(DATA)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path, within=10).data == DATA


@pytest.mark.parametrize("said", ["bytes " + "9" * 5000 + "-1/2", "bytes \u00b2-5/6", "bytes", ""])
def test_a_range_that_is_none_is_not_joined_and_no_defect(http, tmp_path, said):
    odd = answer(DATA[5000:], "206 Partial Content", f"Content-Range: {said}")
    with serving(cut(5000), odd, answer(DATA)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path, within=10).data == DATA


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n" + DATA, "its Content-Length is not a number of bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "its Content-Lengths differ"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", "which is no URL"),
    ],
)
def test_a_source_that_answers_nonsense_is_asked_once_and_the_next_one_instead(http, tmp_path, odd, words):
    with serving(raw(odd)) as server:
        with pytest.raises(Refused, match=words):
            get(http, order(server.url, md5=MD5), tmp_path, within=10)
        assert len(server.requests) == 1
        with serving(answer(DATA)) as second:
            mirrored = order(server.url, md5=MD5, mirrors=(second.url,))
            assert get(http, mirrored, tmp_path, within=10).data == DATA


def test_each_reason_of_tries_that_fail_is_told_once_whatever_numbers_are_in_it(http, tmp_path):
    told = []
    says = [
        answer(b"", "503 Busy"),
        cut(4000),
        cut(4001),
        answer(b"", "429 Slow"),
        answer(b"", "503 Busy"),
        answer(DATA),
    ]
    with serving(*says) as server:
        terms = Terms(20, put_off=lambda error: told.append(str(error)))
        with fetch(http, order(server.url, md5=MD5), Expected("md5", MD5, "x"), tmp_path / "d" / "part", terms):
            pass
        assert len(server.requests) == 6
    name = f"{server.url}/agent-1.tar.gz"
    assert told == [f"{name} answered 503", f"{name}: the answer was cut short"]


def test_a_whole_part_that_was_not_yet_proven_is_taken(http, tmp_path):
    part = tmp_path / "downloads" / "agent.part"
    part.parent.mkdir()
    part.write_bytes(DATA)
    part.with_name("agent.part.validator").write_text('"one"')
    with serving(answer(b"", "416 Range Not Satisfiable")) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path).size == len(DATA)


def test_a_server_in_trouble_is_asked_again(http, tmp_path):
    with serving(answer(b"", "503 Busy"), answer(b"", "429 Slow"), answer(DATA)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path, within=10).size == len(DATA)


def test_a_server_that_asks_for_more_time_than_there_is_is_left_for_the_next_cycle(http, tmp_path):
    with serving(answer(b"", "503 Busy", "Retry-After: 60")) as server, pytest.raises(TryLater) as caught:
        get(http, order(server.url, md5=MD5), tmp_path, within=10)
    assert caught.value.after == 60
    assert len(server.requests) == 1


def test_the_next_mirror_is_asked_when_one_fails_or_has_not_got_it(http, tmp_path):
    with (
        serving(answer(b"", "404 Not Found")) as first,
        serving(answer(b"", "503 Busy")) as second,
        serving(answer(DATA)) as third,
    ):
        mirrors = (second.url, third.url)
        assert get(http, order(first.url, md5=MD5, mirrors=mirrors), tmp_path, within=10).size == len(DATA)


def test_a_mirror_with_other_bytes_is_passed_over(http, tmp_path):
    with serving(answer(b"other bytes")) as first, serving(answer(DATA)) as second:
        assert get(http, order(first.url, md5=MD5, mirrors=(second.url,)), tmp_path, within=10).size == len(DATA)


def test_when_no_mirror_has_it_the_order_is_refused(http, tmp_path):
    missing, other = answer(b"", "404 Not Found"), answer(b"other bytes")
    with serving(missing) as first, serving(other) as second, pytest.raises(Refused, match="has md5"):
        get(http, order(first.url, md5=MD5, mirrors=(second.url,)), tmp_path, within=10)
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert left(tmp_path) == []


def test_a_mirror_without_it_yet_does_not_outvote_a_source_that_is_only_busy(http, tmp_path):
    missing = answer(b"", "404 Not Found")
    with serving(answer(b"", "503 Busy"), answer(DATA)) as first, serving(missing) as second:
        assert get(http, order(first.url, md5=MD5, mirrors=(second.url,)), tmp_path, within=10).data == DATA
    assert (len(first.requests), len(second.requests)) == (2, 1)


def test_what_a_source_began_to_send_is_gone_on_with_though_a_mirror_has_no_such_file(http, tmp_path):
    with serving(cut(5000), rest_from(5000)) as first, serving(answer(b"", "404 Not Found")) as second:
        assert get(http, order(first.url, md5=MD5, mirrors=(second.url,)), tmp_path, within=10).data == DATA
    assert asked(first.requests[1])["Range"] == "bytes=5000-"


@pytest.mark.parametrize("refusal", [answer(b"", "404 Not Found"), answer(b"other bytes")], ids=["no file", "other"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
def test_an_order_is_not_refused_while_any_source_is_only_busy(http, tmp_path, refusal, is_first):
    with serving(answer(b"", "503 Busy")) as busy, serving(refusal) as refusing:
        urls = (busy.url, refusing.url) if is_first else (refusing.url, busy.url)
        with pytest.raises(TryLater, match=f"^{busy.url}/agent-1.tar.gz answered 503$"):
            get(http, order(urls[0], md5=MD5, mirrors=urls[1:]), tmp_path, within=3)
    assert len(busy.requests) > 1
    assert len(refusing.requests) == 1, "what it has is known"


def test_what_came_stays_for_the_next_cycle_though_a_mirror_has_no_such_file(http, tmp_path):
    with serving(cut(5000)) as first, serving(answer(b"", "404 Not Found")) as second, pytest.raises(TryLater):
        get(http, order(first.url, md5=MD5, mirrors=(second.url,)), tmp_path)
    with serving(rest_from(5000)) as first:
        assert get(http, order(first.url, md5=MD5), tmp_path).data == DATA
    assert asked(first.requests[0])["Range"] == "bytes=5000-"


def test_a_mirror_is_asked_at_once_though_the_first_source_wants_a_minute(http, tmp_path):
    with serving(answer(b"", "503 Busy", "Retry-After: 60")) as first, serving(answer(DATA)) as second:
        assert get(http, order(first.url, md5=MD5, mirrors=(second.url,)), tmp_path, within=5).data == DATA


def without_an_end(data):
    """As HTTP/1.0 sends a body: it ends where the connection does."""
    return raw(b"HTTP/1.0 200 OK\r\n\r\n" + data)


def test_a_body_without_a_length_that_was_cut_is_asked_for_once_more(http, tmp_path):
    with serving(without_an_end(DATA[:5000]), without_an_end(DATA)) as server:
        assert get(http, order(server.url, md5=MD5), tmp_path, within=10).data == DATA


def test_a_body_without_a_length_is_refused_when_the_same_wrong_one_has_come_twice(http, tmp_path):
    with serving(without_an_end(DATA[:5000])) as server, pytest.raises(Refused, match=r"expected .*: 5000 bytes came$"):
        get(http, order(server.url, md5=MD5), tmp_path, within=10)
    assert len(server.requests) == 2
    assert left(tmp_path) == []


def test_a_body_without_a_length_that_was_cut_is_for_later_when_there_is_no_time_to_ask_again(http, tmp_path):
    with (
        serving(without_an_end(DATA[:5000])) as server,
        pytest.raises(TryLater, match="nothing said how many there are"),
    ):
        get(http, order(server.url, md5=MD5), tmp_path)
    assert left(tmp_path) == []


def test_a_dripping_download_ends_at_its_deadline(http, tmp_path):
    server = Server([])
    server.says = [drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + DATA, server.stop)]
    with server.running(), pytest.raises(TryLater, match=r"no complete answer within 0\.5 s$"):
        get(http, order(server.url, md5=MD5), tmp_path, within=0.5)


def test_a_download_that_is_too_slow_is_given_up_and_asked_for_again_long_before_its_deadline(http, tmp_path):
    slow = Server([])
    slow.says = [drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + DATA, slow.stop, every=0.02)]
    terms = Terms(within=30, min_speed=1000, slow_after=0.2)
    with slow.running(), serving(answer(DATA)) as quick:
        both = order(slow.url, md5=MD5, mirrors=(quick.url,))
        with fetch(http, both, Expected("md5", MD5, "test"), tmp_path / "downloads" / "part", terms) as fetched:
            assert fetched.size == len(DATA)
    assert (len(slow.requests), len(quick.requests)) == (1, 1)


def test_a_wish_to_stop_ends_a_download(http, tmp_path):
    def stop():
        raise TryLater("the updater is stopping")

    with serving(answer(DATA)) as server, pytest.raises(TryLater, match="stopping"):
        get(http, order(server.url, md5=MD5), tmp_path, within=60, check=stop)

"""A provider in Python: the toy cloud of the SDK's tests, spoken to with the same contract as every plugin.

It is an example and a proof that any language will do. The contract is wit/; `make python-provider` builds it.
"""

import functools
import json
from typing import Any, Callable, List, Optional
from urllib.parse import quote, urlsplit

import wit_world.exports
from componentize_py_types import Err, Ok
from wit_world.imports import log, outgoing_handler, secrets
from wit_world.imports.provider_types import (
    Address, Connection, Description, Group, IncreaseOutcome, IncreaseRequest, Instance, InstanceRef, InstanceState,
    Login_PublicKey, Problem, ProblemKind, Protocol, Reach, Removal, Removal_Accepted, Removal_Gone, Removal_Refused,
    Settings, Snapshot,
)
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    ErrorCode_HttpRequestDenied, Fields, IncomingBody, Method_Delete, Method_Get, Method_Post, OutgoingBody,
    OutgoingRequest, RequestOptions, Scheme_Http, Scheme_Https,
)

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["endpoint", "group"],
    "additionalProperties": False,
    "properties": {
        "endpoint": {"type": "string", "description": "Where the cloud's API answers: http://127.0.0.1:8080"},
        "group": {"type": "string", "description": "The group that new instances join"},
    },
}
STATES = {
    "booting": InstanceState.CREATING,
    "running": InstanceState.RUNNING,
    "stopping": InstanceState.DELETING,
    "failed": InstanceState.FAILED,
}
KINDS = {
    401: ProblemKind.UNAUTHENTICATED,
    403: ProblemKind.FORBIDDEN,
    404: ProblemKind.NOT_FOUND,
    409: ProblemKind.QUOTA,
    429: ProblemKind.THROTTLED,
}
METHODS = {"GET": Method_Get, "POST": Method_Post, "DELETE": Method_Delete}
SECOND = 1_000_000_000
LARGEST_WRITE = 4096
LARGEST_ANSWER = 8 << 20


def failure(kind: ProblemKind, message: str, subject: Optional[str] = None, wait_ms: Optional[int] = None) -> Err:
    """A problem to raise. An exception of any other kind ends the instance, and the host builds a new one."""
    return Err(Problem(kind, message, subject, None, wait_ms, []))


def answered(call: Callable) -> Callable:
    """Turns what nobody foresaw into a problem: a trap would tell the operator less."""

    @functools.wraps(call)
    def guarded(self: "Provider", *arguments: Any) -> Any:
        try:
            return call(self, *arguments)
        except Err:
            raise
        except Exception as error:
            raise failure(ProblemKind.OTHER, f"{call.__name__} failed: {type(error).__name__}: {error}")

    return guarded


def text(value: Any) -> Optional[str]:
    """What the cloud says is only as good as its type: anything else than text would end the call."""
    return value if isinstance(value, str) else None


def number(value: Any, below: int = 2**32) -> Optional[int]:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below else None


def exchange(method: str, url: str, token: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """One request and its whole answer: status, headers in lower case, body."""
    parts = urlsplit(url)
    headers = Fields.from_list([
        ("authorization", f"Bearer {token}".encode()),
        ("content-type", b"application/json"),
        # Without a length the body would go out in chunks, which some APIs refuse.
        ("content-length", str(len(body)).encode()),
    ])
    request = OutgoingRequest(headers)
    request.set_method(METHODS[method]())
    request.set_scheme(Scheme_Https() if parts.scheme == "https" else Scheme_Http())
    request.set_authority(parts.netloc)
    request.set_path_with_query(parts.path + (f"?{parts.query}" if parts.query else ""))
    options = RequestOptions()
    options.set_connect_timeout(5 * SECOND)
    options.set_first_byte_timeout(20 * SECOND)
    options.set_between_bytes_timeout(10 * SECOND)
    outgoing = request.body()
    # `handle` before the body: nothing drains it earlier.
    future = outgoing_handler.handle(request, options)
    try:
        with outgoing.write() as stream:
            for at in range(0, len(body), LARGEST_WRITE):
                stream.blocking_write_and_flush(body[at : at + LARGEST_WRITE])
        OutgoingBody.finish(outgoing, None)
    except Err:
        pass  # A refused request has no reader for its body; the future says why.
    with future.subscribe() as ready:
        ready.block()
    answer = future.get()
    if not isinstance(answer, Ok) or not isinstance(answer.value, Ok):
        code = answer.value.value if isinstance(answer, Ok) else None
        origin = f"{parts.scheme}://{parts.netloc}"
        if isinstance(code, ErrorCode_HttpRequestDenied):
            raise failure(ProblemKind.FORBIDDEN, f"this plugin may not call {origin}; next: grant it in plugins.toml", origin)
        raise failure(ProblemKind.UNAVAILABLE, f"could not call {origin}: {type(code).__name__}", origin)
    with answer.value.value as response:
        status = response.status()
        with response.headers() as fields:
            found = {name.lower(): value.decode("latin-1") for name, value in fields.entries()}
        return status, found, read(response.consume())


def read(body: IncomingBody) -> bytes:
    content = bytearray()
    with body, body.stream() as stream:
        while len(content) <= LARGEST_ANSWER:
            try:
                content += stream.blocking_read(64 << 10)
            except Err as end:
                if isinstance(end.value, StreamError_Closed):
                    return bytes(content)
                raise failure(ProblemKind.UNAVAILABLE, "the connection ended before the answer was complete")
    raise failure(ProblemKind.UNAVAILABLE, f"the answer is larger than {LARGEST_ANSWER} bytes")


class Cloud:
    """The API, for one group."""

    def __init__(self, endpoint: str, group: str):
        self.endpoint = endpoint.rstrip("/")
        self.group = group

    def call(self, method: str, path: str, body: Any = None) -> Any:
        try:
            # Read anew for each call, so that a corrected file heals without a restart.
            token = secrets.get("token").decode().strip()
        except Err as refused:
            raise failure(ProblemKind.FORBIDDEN, refused.value.value, "token")
        sent = b"" if body is None else json.dumps(body).encode()
        status, headers, content = exchange(method, self.endpoint + path, token, sent)
        try:
            answer = json.loads(content) if content else {}
        except ValueError:
            answer = None
        if status >= 400:
            kind = KINDS.get(status, ProblemKind.UNAVAILABLE if status >= 500 else ProblemKind.OTHER)
            wait = headers.get("retry-after", "")
            said = answer.get("message", "") if isinstance(answer, dict) else "nothing that is JSON"
            raise failure(kind, f"{method} {path} was answered {status}: {said}", None,
                          int(wait) * 1000 if wait.isdecimal() else None)
        if not isinstance(answer, dict):
            raise failure(ProblemKind.UNAVAILABLE, f"{method} {path} was answered with something else than JSON")
        return answer

    def instances(self) -> tuple[list[dict], Optional[int]]:
        """Every one, page by page, and how many there may be."""
        found, page, limit = [], "", None
        while True:
            answer = self.call("GET", f"/instances?group={quote(self.group)}{page}")
            found += [one for one in answer["instances"] if text(one["id"])]
            limit = number(answer.get("limit"))
            following = f"&page={quote(str(answer['next']))}" if answer.get("next") else ""
            if not following:
                return found, limit
            if following == page:
                raise failure(ProblemKind.UNAVAILABLE, "the cloud's list of pages does not end")
            page = following


class Provider(wit_world.exports.Provider):
    """Set on the class: each call may be made of a value of its own, and they share nothing else."""

    cloud: Cloud
    settings: Settings

    def describe(self) -> Description:
        return Description("toy-python", "0.1.0", json.dumps(SCHEMA), [], [])

    def init(self, config: str, settings: Settings) -> None:
        try:
            written = json.loads(config)
        except ValueError as error:
            raise failure(ProblemKind.INVALID_CONFIG, f"plugin_config is no JSON: {error}", "plugin_config")
        for key in SCHEMA["required"]:
            value = written.get(key) if isinstance(written, dict) else None
            if not isinstance(value, str) or not value:
                raise failure(ProblemKind.INVALID_CONFIG, f"plugin_config.{key} must be text; next: set it", f"plugin_config.{key}")
        if urlsplit(written["endpoint"]).scheme not in ("http", "https"):
            raise failure(ProblemKind.INVALID_CONFIG, "plugin_config.endpoint is no http or https URL; next: correct it",
                          "plugin_config.endpoint")
        Provider.cloud = Cloud(written["endpoint"], written["group"])
        Provider.settings = settings

    @answered
    def open(self) -> Group:
        _, limit = self.cloud.instances()
        return Group(f"toy/{urlsplit(self.cloud.endpoint).netloc}/{self.cloud.group}", limit, None, [], [])

    @answered
    def update(self) -> Snapshot:
        found, limit = self.cloud.instances()
        instances = [
            Instance(one["id"], STATES.get(one.get("state"), InstanceState.UNKNOWN), None, None, None, None, None,
                     text(one.get("request")), "", [])
            for one in found
        ]
        return Snapshot(instances, None, limit, None, [], [])

    def increase(self, request: IncreaseRequest) -> IncreaseOutcome:
        made: List[str] = []
        problems: List[Problem] = []
        try:
            self.ask(request, made)
        except Err as refused:
            problems.append(refused.value)
        log.write(log.Level.DEBUG, "asked for more", [("accepted", str(len(made)))])
        return IncreaseOutcome(len(made), made, None, problems, [])

    @answered
    def ask(self, request: IncreaseRequest, made: List[str]) -> None:
        """Adds to `made`, also where it fails half-way."""
        # Each instance carries the token of its wish: what an earlier try made is found here, and not made again.
        found, _ = self.cloud.instances()
        made += [one["id"] for one in found if one.get("request") == request.token][: request.count]
        body = {"group": self.cloud.group, "request": request.token, "ssh_key": self.settings.ssh_public_key}
        while len(made) < request.count:
            made.append(str(self.cloud.call("POST", "/instances", body)["id"]))

    def decrease(self, instances: List[InstanceRef]) -> List[Removal]:
        return [self.removal(one) for one in instances]

    def removal(self, one: InstanceRef) -> Removal:
        try:
            self.remove(one)
            return Removal_Accepted()
        except Err as refused:
            gone = refused.value.kind is ProblemKind.NOT_FOUND
            return Removal_Gone() if gone else Removal_Refused(refused.value)

    @answered
    def remove(self, one: InstanceRef) -> None:
        self.cloud.call("DELETE", f"/instances/{quote(one.id, safe='')}")

    @answered
    def connect_info(self, of: InstanceRef) -> Connection:
        one = self.find(of)
        address = text(one.get("address"))
        if one.get("state") != "running" or not address:
            raise failure(ProblemKind.NOT_READY, f"{of.id} does not run yet", of.id)
        addresses = [Address(Reach.INTERNAL, address, number(one.get("port"), below=2**16))]
        return Connection("linux", None, Protocol.SSH, text(one.get("user")), Login_PublicKey(), addresses, [], None, [])

    @answered
    def heartbeat(self, of: InstanceRef) -> None:
        self.find(of)

    def shutdown(self, for_good: bool) -> None:
        pass

    def find(self, of: InstanceRef) -> dict:
        return self.cloud.call("GET", f"/instances/{quote(of.id, safe='')}")

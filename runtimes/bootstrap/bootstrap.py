"""Runs a Python function inside an execution environment.

Speaks frames with the host on descriptor 3 and behaves towards the function as AWS's runtime client does. It imports
nothing that the interpreter has not loaded at its start but small C modules: json and logging alone would more than
double the start of a function that does not use them. Works on Python 3.8 and later.
"""
import marshal
import os
import sys
import time

CHANNEL = 3
HEADER = 9
PARK = ord("P")
BUFFER_SIZE = 64 * 1024
FRAME_MAGIC = b"\xa5\x5a\x00\x03"
MAX_LENGTH = 0xFFFFFFFF
LARGEST_PROFILE = 1024 * 1024
NO_BREAK_SPACE = "\u00a0"
TRACE_ID = b"_X_AMZN_TRACE_ID"

request_id = None
tenant_id = None
park = None  # the names of park.py, in a process that was started as a template
profile = None  # the names of init_profile.py, while init is measured


class Fault(Exception):
    """A failure with one of AWS's Runtime. types."""

    def __init__(self, kind, message, trace=None):
        super().__init__(message)
        self.kind = "Runtime." + kind
        self.trace = trace or []


# --- JSON ---------------------------------------------------------------------------------------------------------
# The C half of the json module does the work. Its Python half is imported only to word an error.

ASCII_ONLY = sys.version_info < (3, 12)  # as AWS's python3.12 runtime and its successors


class Literal(str):
    """Text that goes into the output as it is: a Decimal."""


def not_serializable(value):
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return float("nan") if value.is_nan() else Literal(value)
    if isinstance(value, bytes):
        return str(value, "utf-8")
    raise TypeError("Object of type %s is not JSON serializable" % value.__class__.__name__)


def without_named_tuples(value, path):
    """A copy in which everything that has an _asdict method is a dict, and byte keys are text."""
    if isinstance(value, (str, int, float, bytes)) or value is None:
        return value
    as_dict = getattr(value, "_asdict", None)
    if not callable(as_dict) and not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) in path:
        raise ValueError("Circular reference detected")
    path.add(id(value))
    whole = as_dict() if callable(as_dict) else value
    if isinstance(whole, dict):
        copy = {
            str(k, "utf-8") if isinstance(k, bytes) else k: without_named_tuples(v, path) for k, v in whole.items()
        }
    else:
        copy = [without_named_tuples(v, path) for v in whole]
    path.discard(id(value))
    return copy


try:
    import _json

    class ScannerOptions:
        strict = True
        object_hook = None
        object_pairs_hook = None
        array_hook = None
        parse_float = float
        parse_int = int
        parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__

    scan = _json.make_scanner(ScannerOptions)
    quote = _json.encode_basestring_ascii if ASCII_ONLY else _json.encode_basestring
    encode_plain = _json.make_encoder(None, not_serializable, quote, None, ": ", ", ", False, False, True)
    encode_careful = _json.make_encoder(
        None,
        not_serializable,
        lambda text: str(text) if type(text) is Literal else quote(text),
        None,
        ": ",
        ", ",
        False,
        False,
        True,
    )
    # AWS's JSON logging leaves letters as they are in all versions.
    encode_log = _json.make_encoder(None, str, _json.encode_basestring, None, ": ", ", ", False, False, True)
except (ImportError, AttributeError, TypeError):
    # An interpreter without the C half, or with another one.
    import json

    def scan(text, start):
        return json.loads(text), len(text)

    quote = json.dumps

    def encode_plain(value, _level):
        return json.JSONEncoder(ensure_ascii=ASCII_ONLY, default=not_serializable).encode(value)

    encode_careful = encode_plain

    def encode_log(value, _level):
        return json.JSONEncoder(ensure_ascii=False, default=str).encode(value)


def parse(text):
    stripped = text.strip(" \t\r\n")
    try:
        value, end = scan(stripped, 0)
        if end == len(stripped):
            return value
    except (StopIteration, SystemError, ValueError):
        pass
    import json

    return json.loads(text)


def serialize(value):
    if type(value) is str:
        return quote(value)
    try:
        marshal.dumps(value, 2)  # refuses, in C, cycles and what is not of the exact built-in types
        return "".join(encode_plain(value, 0))
    except (TypeError, ValueError):
        return "".join(encode_careful(without_named_tuples(value, set()), 0))


# --- Logs ---------------------------------------------------------------------------------------------------------


def write_message(text):
    """One message to the log, whole however many lines it has."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    data = text.encode("utf-8", "replace")
    view = memoryview(
        FRAME_MAGIC + len(data).to_bytes(4, "big") + (time.time_ns() // 1000).to_bytes(8, "big") + data
    )
    while view:
        try:
            view = view[os.write(1, view) :]
        except BlockingIOError:
            time.sleep(0.001)


# Whether the function's log is to consist of JSON objects (LoggingConfig's LogFormat).
JSON_LOG = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"


def json_line(values):
    """A JSON object for the log. What has no JSON is shown as text: a log line shall not be lost."""
    try:
        return "".join(encode_log(values, 0))
    except (TypeError, ValueError, RecursionError):
        plain = {key: value if type(value) in (str, int, float, bool) else str(value) for key, value in values.items()}
        return "".join(encode_log(plain, 0))


def log_error(error):
    if JSON_LOG:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_message(serialize({"timestamp": at, "log_level": "ERROR", **error}))
        return
    head = "[ERROR]"
    if error["errorType"]:
        head += " " + error["errorType"]
    if error["errorMessage"]:
        head += (": " if error["errorType"] else " ") + error["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for entry in error["stackTrace"]:
        for line in entry.splitlines() or [""]:
            text = line.lstrip(" ")
            lines.append(NO_BREAK_SPACE * (len(line) - len(text)) + text)
    write_message("\n".join(lines))


def set_up_logging(logging):
    """Gives the root logger AWS's handler. Runs right after the function's code has imported logging."""
    if not hasattr(logging, "getLogger"):
        return  # a module of the function's own

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            record.aws_request_id = request_id or ""
            record.tenant_id = tenant_id
            write_message(self.format(record))

    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    root = logging.getLogger()
    if JSON_LOG:
        handler.setFormatter(json_formatter(logging))
        level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "INFO")
        root.setLevel(logging.NOTSET if level == "TRACE" else logging.getLevelName(level))
    else:
        handler.setFormatter(
            logging.Formatter(
                "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"
            )
        )
    root.addHandler(handler)


def json_formatter(logging):
    # What every record has; the rest is what the function gave as extra.
    common = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "aws_request_id", "tenant_id"}

    class JSONFormatter(logging.Formatter):
        def format(self, record):
            values = {
                "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
                # AWS knows no levels between these.
                "level": logging.getLevelName(min(50, max(10, record.levelno // 10 * 10))),
                "message": record.getMessage(),
                "logger": record.name,
            }
            if record.exc_info and record.exc_info[0]:
                import traceback

                kind, error, trace = record.exc_info
                values["stackTrace"] = traceback.format_tb(trace)
                values["errorType"] = kind.__name__
                values["errorMessage"] = str(error)
                values["location"] = "%s:%s:%d" % (record.pathname, record.funcName, record.lineno)
            if record.aws_request_id:
                values["requestId"] = record.aws_request_id
            if record.tenant_id is not None:
                values["tenantId"] = record.tenant_id
            for key, value in vars(record).items():
                if key not in common and key not in values and value is not None:
                    values[key] = value
            return json_line(values) + "\n"

    return JSONFormatter()


class ImportWatch:
    """An importer that finds nothing itself; it calls what waits for a module as soon as that has been imported."""

    waiting = {"logging": set_up_logging}

    @classmethod
    def begin(cls):
        for name in list(cls.waiting):
            if name in sys.modules:  # what a sitecustomize has imported: the function's or a wrapper's
                cls.waiting.pop(name)(sys.modules[name])
        if cls.waiting:
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        after = cls.waiting.pop(name, None)
        if after is None:
            return None
        if not cls.waiting:
            sys.meta_path.remove(cls)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not cls else None
            if spec is not None:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def execute_and_call(module):
            execute(module)
            after(module)

        spec.loader.exec_module = execute_and_call
        return spec


# --- Context ------------------------------------------------------------------------------------------------------


class Record:
    names = ()

    def __init__(self, values=None):
        if values:
            for name in self.names:
                setattr(self, name, values.get(name))

    def __repr__(self):
        fields = ",".join("%s=%s" % (name, getattr(self, name)) for name in self.names)
        return "%s([%s])" % (self.__class__.__name__, fields)


class CognitoIdentity(Record):
    cognito_identity_id = cognito_identity_pool_id = None
    names = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(Record):
    installation_id = app_title = app_version_name = app_version_code = app_package_name = None
    names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(Record):
    custom = env = client = None
    names = ("custom", "env", "client")


class LambdaContext:
    # What is the same in all invocations of an environment; read once, since it is a good part of a warm call's cost.
    same = {}

    @classmethod
    def read_environment(cls):
        env = os.environ.get
        cls.same = {
            "log_group_name": env("AWS_LAMBDA_LOG_GROUP_NAME"),
            "log_stream_name": env("AWS_LAMBDA_LOG_STREAM_NAME"),
            "function_name": env("AWS_LAMBDA_FUNCTION_NAME"),
            "memory_limit_in_mb": env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
            "function_version": env("AWS_LAMBDA_FUNCTION_VERSION"),
            "tenant_id": tenant_id,
            "client_context": None,
        }

    def __init__(self, invoke_id, deadline, arn, client_context, cognito_identity):
        self.__dict__.update(self.same)
        self.aws_request_id = invoke_id
        self.invoked_function_arn = arn
        if client_context:
            values = parse_header(client_context, "Client Context")
            self.client_context = ClientContext(values)
            if self.client_context.client is not None:
                self.client_context.client = Client(self.client_context.client)
        self.identity = CognitoIdentity()
        if cognito_identity:
            values = parse_header(cognito_identity, "Cognito Identity")
            self.identity.cognito_identity_id = values.get("cognitoIdentityId")
            self.identity.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")
        self._epoch_deadline_time_in_ms = deadline

    def get_remaining_time_in_millis(self):
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, message):
        write_message(str(message))

    def __repr__(self):
        names = (
            "aws_request_id",
            "log_group_name",
            "log_stream_name",
            "function_name",
            "memory_limit_in_mb",
            "function_version",
            "invoked_function_arn",
            "client_context",
            "identity",
            "tenant_id",
        )
        return "LambdaContext([%s])" % ",".join("%s=%s" % (name, getattr(self, name)) for name in names)


def parse_header(text, name):
    try:
        value = parse(text)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value
    except Exception as error:
        raise Fault("LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, error))


# --- Errors -------------------------------------------------------------------------------------------------------


def describe(error, invoke_id=""):
    """The error object that the caller gets, members in AWS's order."""
    if isinstance(error, Fault):
        kind, message, trace = error.kind, str(error), error.trace
    else:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        while len(frames) > 1 and frames[0].filename == main.__code__.co_filename:
            del frames[0]
        measuring = main.__code__.co_filename.replace("bootstrap.py", "init_profile.py")
        frames = [frame for frame in frames if frame.filename != measuring]
        kind, message = type(error).__name__, str(error)
        trace = traceback.format_list([(f.filename, f.lineno, f.name, f.line) for f in frames])
    return {"errorMessage": message, "errorType": kind, "requestId": invoke_id, "stackTrace": trace}


# --- Channel ------------------------------------------------------------------------------------------------------


class Channel:
    def __init__(self):
        self.buffer = memoryview(bytearray(BUFFER_SIZE))
        self.target = [self.buffer]
        self.open = True
        self.parked = False
        os.set_inheritable(CHANNEL, False)
        os.set_blocking(CHANNEL, True)
        os.register_at_fork(after_in_child=self.close)

    def close(self):
        """Keeps a child process that the function forks from speaking in its parent's place."""
        if self.open and not self.parked:
            self.open = False
            os.close(CHANNEL)

    def receive(self):
        """The next invocation: its meta fields and the event's text."""
        buffer = self.buffer
        have = os.readv(CHANNEL, self.target)
        while have < HEADER:
            have += self.read_more(buffer[have:])
        meta_end = HEADER + int.from_bytes(buffer[1:5], "big")
        end = meta_end + int.from_bytes(buffer[5:9], "big")
        if end > BUFFER_SIZE:
            buffer = memoryview(bytearray(end))
            buffer[:have] = self.buffer[:have]
        while have < end:
            have += self.read_more(buffer[have:end])
        if buffer[0] == PARK:
            become_template(self)
            return self.receive()
        return str(buffer[HEADER:meta_end], "utf-8").split("\0"), buffer[meta_end:end]

    @staticmethod
    def read_more(view):
        count = os.readv(CHANNEL, [view])
        if count == 0:
            os._exit(0)  # the host has gone
        return count

    def send(self, kind, meta=b"", body=b""):
        if not self.open:
            os._exit(1)  # a forked child that returned from the handler
        if len(body) > MAX_LENGTH:
            body = memoryview(body)[:MAX_LENGTH]  # the host refuses it for its size anyhow
        head = kind + len(meta).to_bytes(4, "big") + len(body).to_bytes(4, "big") + meta
        if len(body) < BUFFER_SIZE:
            head += body
            body = b""
        for part in (head, body):
            if not part:
                continue
            sent = os.write(CHANNEL, part)
            if sent < len(part):
                view = memoryview(part)[sent:]
                while view:
                    view = view[os.write(CHANNEL, view) :]

    def send_error(self, kind, error):
        self.send(kind, error["errorType"].encode("utf-8", "replace"), encode(serialize(error)))


def encode(text):
    return text.encode("utf-8", "backslashreplace")


def load_part(name):
    """The names of a part of the bootstrap that not every process needs. Functions can import what lies here: no part has the
    name of a module of Python's own."""
    from _frozen_importlib_external import SourcelessFileLoader

    space = {"__file__": __file__, "__name__": name}
    exec(SourcelessFileLoader(name, os.path.join(os.path.dirname(__file__), name + ".pyc")).get_code(name), space)
    return space


def end_profile(channel, up):
    """Tells the host what init spent its time on, if it has been measured."""
    global profile
    if profile is None:
        return
    try:
        body = encode(serialize(profile["end"]()))
    except Exception:
        body = b""
    profile = None
    channel.send(b"T", b"%d" % up, body if len(body) <= LARGEST_PROFILE else b"")


def become_template(channel):
    """Waits to be forked. It returns in each environment that is."""
    park["park"](channel, sys.modules[__name__])


def rehearse():
    """An invocation without a function: a fork writes here to the memory that it then has for itself, before a request waits."""
    invoke(lambda event, context: event, ["", "0", "", "", "", ""], b'{"": [0, ""]}')


# --- Function -----------------------------------------------------------------------------------------------------


def load(name):
    """The handler that name stands for: package.module.function or path/to/module.function."""
    module_name, dot, attribute = name.rpartition(".")
    if not dot:
        raise Fault(
            "MalformedHandlerName", "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % name
        )
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault("BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name)
    dotted = module_name.replace("/", ".")
    try:
        __import__(dotted)
        module = sys.modules[dotted]
    except ImportError as error:
        raise Fault("ImportModuleError", "Unable to import module '%s': %s" % (module_name, error))
    except SyntaxError as error:
        raise Fault(
            "UserCodeSyntaxError",
            "Syntax error in module '%s': %s" % (module_name, error),
            ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)],
        )
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise Fault("HandlerNotFound", "Handler '%s' missing on module '%s'" % (attribute, module_name)) from None


def invoke(handler, meta, event):
    """What the handler makes of one event: a frame's kind and body, or the error object."""
    invoke_id, deadline, arn, _, client_context, identity = meta[:6]
    try:
        context = LambdaContext(invoke_id, int(deadline), arn, client_context, identity)
        try:
            value = parse(str(event, "utf-8", "surrogatepass"))
        except Exception as error:
            raise Fault("UnmarshalError", "Unable to unmarshal input: %s" % error)
        response = handler(value, context)
        if isinstance(response, bytes):
            return response, None
        try:
            return serialize(response).encode("utf-8"), None
        except Exception as error:
            raise Fault("MarshalError", "Unable to marshal response: %s" % error)
    except Exception as error:
        return None, describe(error, invoke_id)


def set_up_process():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    if sys.flags.utf8_mode and os.environ.get("LC_CTYPE") == "C.UTF-8":
        del os.environ["LC_CTYPE"]  # which Python sets itself where the locale of LANG is not installed (PEP 538)
    root = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    site_packages = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
    first = [root, site_packages, "/opt/python", os.path.dirname(__file__)]
    sys.path[:] = first + [entry for entry in sys.path if entry not in first]
    global park, profile
    if "--template" in sys.argv:
        park = load_part("park")
        ImportWatch.waiting.update(park["AFTER_IMPORT"])
    ImportWatch.begin()
    if "--profile" in sys.argv:
        profile = load_part("init_profile")
    sys.argv = [main.__code__.co_filename]


def set_trace_id(trace_id):
    """For os.environ only: the C library keeps every value that setenv was ever given, and searches them all."""
    variables = os.environ._data
    if trace_id:
        variables[TRACE_ID] = os.environ.encodevalue(trace_id)
    else:
        variables.pop(TRACE_ID, None)


def main():
    global request_id
    set_up_process()
    channel = Channel()
    up = time.time_ns() // 1000
    if profile is not None:
        profile["begin"]()
    try:
        handler = load(os.environ.get("_HANDLER", ""))
    except Exception as error:
        end_profile(channel, up)
        error = describe(error)
        log_error(error)
        channel.send_error(b"X", error)
        sys.exit(1)
    end_profile(channel, up)
    LambdaContext.read_environment()
    os.environ.pop("_X_AMZN_TRACE_ID", None)
    channel.send(b"R", b"%d" % up)
    while True:
        meta, event = channel.receive()
        request_id = meta[0]
        set_trace_id(meta[3])
        response, error = invoke(handler, meta, event)
        if error is not None:
            log_error(error)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        if error is not None:
            channel.send_error(b"F", error)
        else:
            channel.send(b"S", b"", response)
        response = event = None


if __name__ == "__main__":
    main()

package tests

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"thaw/tests/harness"
)

const functionsPath = "/2015-03-31/functions"

// refused checks that an answer is the error that AWS gives: status, code in x-amzn-ErrorType, and the body's message.
func refused(t *testing.T, a *answer, status int, code, message string) {
	t.Helper()
	var body struct{ Message, LowerMessage string }
	raw := map[string]any{}
	_ = json.Unmarshal([]byte(a.payload), &raw)
	for _, key := range []string{"message", "Message"} {
		if text, ok := raw[key].(string); ok {
			body.Message = text
		}
	}
	if a.status != status || a.header.Get("X-Amzn-Errortype") != code {
		t.Errorf("%d %s, not %d %s: %.300s", a.status, a.header.Get("X-Amzn-Errortype"), status, code, a.payload)
	}
	if !regexp.MustCompile(`(?s)\A` + message + `\z`).MatchString(body.Message) {
		t.Errorf("the message is %.500q and does not match %q", body.Message, message)
	}
	if a.id == "" {
		t.Error("the answer has no request id")
	}
}

// create is a CreateFunction request as JSON, changed by edit.
func create(name string, archive []byte, edit func(map[string]any)) io.Reader {
	request := map[string]any{
		"FunctionName": name, "Runtime": "python3.11", "Handler": "f.handler", "Role": "arn:aws:iam::000000000000:role/any",
		"Code": map[string]any{"ZipFile": base64.StdEncoding.EncodeToString(archive)},
	}
	if edit != nil {
		edit(request)
	}
	body, _ := json.Marshal(request)
	return bytes.NewReader(body)
}

// zipEntry is one entry of an archive that Zip would not make.
type zipEntry struct {
	name, body string
	mode       fs.FileMode
	zeros      int64 // instead of body
}

func oddZip(t *testing.T, entries ...zipEntry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := zip.NewWriter(&buffer)
	for _, e := range append([]zipEntry{{name: "f.py", body: "def handler(e, c): return 1\n", mode: 0o644}}, entries...) {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, NonUTF8: true}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.body); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(f, zeroes{}, e.zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBadInput: whatever is sent, the answer is AWS's error, and the function that was there goes on.
func TestBadInput(t *testing.T) {
	s := startStage(t)
	s.python(t, "good", "def handler(e, c): return 'still here'\n", deployed{})
	good := harness.Zip(t, map[string]string{"f.py": "def handler(e, c): return 'new'\n"})
	// One that sends its headers slowly is there all the time, and is hung up on at the end.
	slow := s.dial(t)
	fmt.Fprintf(slow, "POST %s/good/invocations HTTP/1.1\r\nHost: %s\r\nX-Slow", functionsPath, slow.RemoteAddr())

	t.Run("packages", func(t *testing.T) {
		const unusable = `Could not unzip uploaded file\. Please check your file, then try to upload again\.`
		const parameter = "InvalidParameterValueException"
		for _, test := range []struct {
			name    string
			archive []byte
			status  int
			code    string
			message string
		}{
			{"not a zip", []byte("hello"), 400, parameter, unusable},
			{"empty", []byte{}, 400, parameter, "Uploaded file must be a non-empty zip"},
			{"no entries", []byte("PK\x05\x06" + strings.Repeat("\x00", 18)), 400, parameter, "Uploaded file must be a non-empty zip"},
			{"cut off", good[:len(good)-30], 400, parameter, unusable},
			{"over 50 MB", make([]byte, 52_428_801), 413, "RequestEntityTooLargeException", "Zipped size must be smaller than 52428800 bytes"},
			{"over 250 MB unpacked", oddZip(t, zipEntry{name: "big", zeros: 262_144_000, mode: 0o644}), 400, parameter, "Unzipped size must be smaller than 262144000 bytes"},
			{"a way up", oddZip(t, zipEntry{name: "../../etc/cron.d/x", body: "x", mode: 0o644}), 400, parameter, unusable + ".* leads out .*"},
			{"absolute", oddZip(t, zipEntry{name: "/etc/cron.d/x", body: "x", mode: 0o644}), 400, parameter, unusable + ".* is absolute.*"},
			{"link out", oddZip(t, zipEntry{name: "l", body: "../../etc/passwd", mode: fs.ModeSymlink | 0o777}), 400, parameter, unusable + ".* out of the function's directory.*"},
			{"absolute link", oddZip(t, zipEntry{name: "l", body: "/etc/passwd", mode: fs.ModeSymlink | 0o777}), 400, parameter, unusable + ".* out of the function's directory.*"},
			{"device", oddZip(t, zipEntry{name: "d", mode: fs.ModeDevice | 0o666}), 400, parameter, unusable + ".*neither a file nor a directory nor a link.*"},
			{"pipe", oddZip(t, zipEntry{name: "p", mode: fs.ModeNamedPipe | 0o666}), 400, parameter, unusable + ".*neither a file nor a directory nor a link.*"},
			{"not UTF-8", oddZip(t, zipEntry{name: "gr\xfc\xdfe", body: "x", mode: 0o644}), 400, parameter, unusable + ".*is not UTF-8.*"},
		} {
			t.Run(test.name, func(t *testing.T) {
				refused(t, s.call(t, http.MethodPost, functionsPath, nil, create("fresh", test.archive, nil)), test.status, test.code, test.message)
				refused(t, s.call(t, http.MethodGet, functionsPath+"/fresh", nil, nil), 404, "ResourceNotFoundException", "Function not found: .*:fresh")
				update, _ := json.Marshal(map[string]any{"ZipFile": test.archive})
				refused(t, s.call(t, http.MethodPut, functionsPath+"/good/code", nil, bytes.NewReader(update)), test.status, test.code, test.message)
				s.succeed(t, "good", "{}", `"still here"`)
			})
		}
		t.Run("names that differ by case", func(t *testing.T) {
			s.deploy(t, "cases", deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{
				"f.py": "def handler(e, c): return [open('/var/task/' + n).read() for n in ('Data', 'data')]\n", "Data": "upper", "data": "lower"}})
			s.succeed(t, "cases", "{}", `["upper","lower"]`)
		})
	})

	t.Run("configurations", func(t *testing.T) {
		set := func(key string, value any) func(map[string]any) { return func(m map[string]any) { m[key] = value } }
		for _, test := range []struct {
			name    string
			edit    func(map[string]any)
			code    string
			message string
		}{
			{"unknown runtime", set("Runtime", "cobol85"), "InvalidParameterValueException", "Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: .*"},
			{"environment over 4 KB", set("Environment", map[string]any{"Variables": map[string]string{"AB": strings.Repeat("x", 4096)}}), "InvalidParameterValueException",
				"Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: .*"},
			{"reserved variable", set("Environment", map[string]any{"Variables": map[string]string{"AWS_REGION": "x"}}), "InvalidParameterValueException",
				"Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys .*AWS_REGION.*"},
			{"bad variable name", set("Environment", map[string]any{"Variables": map[string]string{"a-b": "x"}}), "ValidationException", "1 validation error detected: .*"},
			{"little memory", set("MemorySize", 64), "ValidationException", "1 validation error detected: Value '64' at 'memorySize' failed .*"},
			{"much memory", set("MemorySize", 20000), "ValidationException", "1 validation error detected: Value '20000' at 'memorySize' failed .*"},
			{"no time", set("Timeout", 0), "ValidationException", "1 validation error detected: Value '0' at 'timeout' failed .*"},
			{"much time", set("Timeout", 901), "ValidationException", "1 validation error detected: Value '901' at 'timeout' failed .*"},
			{"no role", set("Role", "me"), "ValidationException", "1 validation error detected: Value 'me' at 'role' failed .*"},
			{"no runtime", func(m map[string]any) { delete(m, "Runtime") }, "InvalidParameterValueException", "Runtime and Handler are mandatory parameters .*"},
			{"no code", set("Code", map[string]any{}), "InvalidParameterValueException", "Please provide a source for function code."},
			{"a number as text", set("Timeout", "three"), "SerializationException", ".+"},
			{"a blank in the name", set("FunctionName", "a b"), "ValidationException", "1 validation error detected: Value 'a b' at 'functionName' failed .*"},
			{"no name", set("FunctionName", ""), "ValidationException", ".*at 'functionName' failed.*"},
			{"a long name", set("FunctionName", strings.Repeat("n", 65)), "InvalidParameterValueException", ".*Member must have length less than or equal to 64"},
			{"a path as name", set("FunctionName", "../../etc"), "ValidationException", ".*at 'functionName' failed.*"},
			{"layers", set("Layers", []string{"arn:aws:lambda:us-east-1:000000000000:layer:x:1"}), "InvalidParameterValueException", "Layer version .*:layer:x:1 does not exist."},
			{"an image", func(m map[string]any) { m["PackageType"] = "Image" }, "InvalidParameterValueException", ".*PackageType.*"},
		} {
			t.Run(test.name, func(t *testing.T) {
				refused(t, s.call(t, http.MethodPost, functionsPath, nil, create("fresh", good, test.edit)), 400, test.code, test.message)
			})
		}
		t.Run("a name that is taken", func(t *testing.T) {
			refused(t, s.call(t, http.MethodPost, functionsPath, nil, create("good", good, nil)), 409, "ResourceConflictException", "Function already exist: good")
		})
		t.Run("another account's name", func(t *testing.T) {
			edit := set("FunctionName", "arn:aws:lambda:us-east-1:999999999999:function:fresh")
			refused(t, s.call(t, http.MethodPost, functionsPath, nil, create("", good, edit)), 403, "AccessDeniedException", "User: .* is not authorized to perform: lambda:CreateFunction .*")
		})
		refused(t, s.call(t, http.MethodGet, functionsPath+"/fresh", nil, nil), 404, "ResourceNotFoundException", "Function not found: .*:fresh")
	})

	t.Run("invocations", func(t *testing.T) {
		const notFound = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:"
		for _, test := range []struct {
			name, function, query string
			header                map[string]string
			body                  string
			status                int
			code                  string
			message               string
		}{
			{name: "not JSON", body: "{", status: 400, code: "InvalidRequestContentException", message: "Could not parse request body into json: .+"},
			{name: "not UTF-8", body: "\xff", status: 400, code: "InvalidRequestContentException", message: "Could not parse request body into json: .+"},
			{name: "two values", body: "1 2", status: 400, code: "InvalidRequestContentException", message: "Could not parse request body into json: .+"},
			{name: "over 6 MB", body: `"` + strings.Repeat("x", 6291455) + `"`, status: 413, code: "RequestTooLargeException",
				message: `6291457 byte payload is too large for the RequestResponse invocation type \(limit 6291456 bytes\)`},
			{name: "no such function", function: "absent", status: 404, code: "ResourceNotFoundException", message: notFound + "absent"},
			{name: "no such version", query: "?Qualifier=7", status: 404, code: "ResourceNotFoundException", message: notFound + "good:7"},
			{name: "no such alias", function: "good:live", status: 404, code: "ResourceNotFoundException", message: notFound + "good:live"},
			{name: "no qualifier at all", query: "?Qualifier=a%20b", status: 400, code: "ValidationException", message: "1 validation error detected: Value 'a b' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: .*"},
			{name: "a long qualifier", query: "?Qualifier=" + strings.Repeat("q", 129), status: 400, code: "ValidationException", message: "1 validation error detected: .* at 'qualifier' failed to satisfy constraint: Member must have length less than or equal to 128"},
			{name: "two qualifiers", function: "good:one", query: "?Qualifier=two", status: 400, code: "InvalidParameterValueException", message: "The derived qualifier from the function name does not match the specified qualifier."},
			{name: "bad name", function: "a%20b", status: 400, code: "ValidationException", message: "1 validation error detected: Value 'a b' at 'functionName' failed .*"},
			{name: "a path as name", function: "..%2Fgood", status: 400, code: "ValidationException", message: ".*at 'functionName' failed .*"},
			{name: "another account", function: "arn:aws:lambda:us-east-1:999999999999:function:good", status: 403, code: "AccessDeniedException",
				message: "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:999999999999:function:good .*"},
			{name: "another region", function: "arn:aws:lambda:eu-west-1:000000000000:function:good", status: 404, code: "ResourceNotFoundException",
				message: `Functions from 'eu-west-1' are not reachable in this region \('us-east-1'\)`},
			{name: "invocation type", header: map[string]string{"X-Amz-Invocation-Type": "Sideways"}, status: 400, code: "ValidationException", message: ".*at 'invocationType' failed .*"},
			{name: "log type", header: map[string]string{"X-Amz-Log-Type": "Head"}, status: 400, code: "ValidationException", message: ".*at 'logType' failed .*"},
			{name: "client context", header: map[string]string{"X-Amz-Client-Context": "%%%"}, status: 400, code: "InvalidRequestContentException", message: ".*"},
		} {
			t.Run(test.name, func(t *testing.T) {
				function := test.function
				if function == "" {
					function = "good"
				}
				a := s.call(t, http.MethodPost, functionsPath+"/"+function+"/invocations"+test.query, test.header, strings.NewReader(test.body))
				refused(t, a, test.status, test.code, test.message)
			})
		}
		for _, name := range []string{"good", "good:$LATEST", "000000000000:function:good", "arn:aws:lambda:us-east-1:000000000000:function:good", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Agood%3A%24LATEST"} {
			s.succeed(t, name, "", `"still here"`)
		}
		for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "multipart/form-data; boundary=x"} {
			a := s.call(t, http.MethodPost, functionsPath+"/good/invocations", map[string]string{"Content-Type": kind}, strings.NewReader("{}"))
			if a.payload != `"still here"` {
				t.Errorf("Content-Type %q: %d %s", kind, a.status, a.payload)
			}
		}
	})

	t.Run("handler that does not exist", func(t *testing.T) {
		for handler, message := range map[string]string{"f.absent": "Handler 'absent' missing on module 'f'", "absent.handler": "Unable to import module 'absent': No module named 'absent'", "nothing": ".*Bad handler 'nothing'.*", "../f.handler": ".*"} {
			s.configure(t, "cases", &lambda.UpdateFunctionConfigurationInput{Handler: &handler})
			a := s.invoke(t, "cases", "{}")
			kind, text := a.failure()
			if a.header.Get("X-Amz-Function-Error") != "Unhandled" || !strings.HasPrefix(kind, "Runtime.") {
				t.Errorf("%s: %s", handler, a.payload)
			}
			matches(t, "errorMessage", text, message, a.id)
		}
	})

	t.Run("protocol", func(t *testing.T) { s.speakBadly(t) })
	t.Run("browsers", func(t *testing.T) {
		for _, header := range []map[string]string{{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}} {
			refused(t, s.call(t, http.MethodPost, functionsPath+"/good/invocations", header, strings.NewReader("{}")), 403, "AccessDeniedException", ".+")
		}
	})
	s.succeed(t, "good", "{}", `"still here"`)
	if n, err := slow.Read(make([]byte, 1024)); err == nil && n == 0 {
		t.Error("a client that never ends its headers was served")
	} else if err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("a client that never ends its headers was not hung up on: %v", err)
	}
}

// dial opens a connection that does not outlive the test.
func (s *stage) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// raw sends bytes and reads the answer to them.
func (s *stage) raw(t *testing.T, request string, end bool) *http.Response {
	t.Helper()
	c := s.dial(t)
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "HOST", c.RemoteAddr().String())); err != nil {
		t.Logf("the platform hung up while it was written to: %v", err)
	}
	if end {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func (s *stage) speakBadly(t *testing.T) {
	for _, test := range []struct {
		name, method, path string
		header             map[string]string
		body               string
		status             int
		code, message      string
	}{
		{"unknown path", "GET", "/2015-03-31/nonsense", nil, "", 404, "UnknownOperationException", ".*GET /2015-03-31/nonsense.*"},
		{"unknown date", "GET", "/1999-01-01/functions", nil, "", 404, "UnknownOperationException", ".*"},
		{"wrong method", "PATCH", functionsPath + "/good", nil, "", 404, "UnknownOperationException", ".*PATCH.*"},
		{"get of invocations", "GET", functionsPath + "/good/invocations", nil, "", 404, "UnknownOperationException", ".*"},
		{"invocations of nothing", "POST", functionsPath + "/invocations", nil, "{}", 404, "UnknownOperationException", ".*"},
		{"invocations without a name", "POST", functionsPath + "//invocations", nil, "{}", 400, "ValidationException", ".*functionName.*"},
		{"operation that is not there", "GET", "/2021-10-31/functions/good/url", nil, "", 501, "NotImplementedException", ".*GetFunctionUrlConfig.*"},
		{"unknown service", "POST", "/", map[string]string{"X-Amz-Target": "DynamoDB_20120810.ListTables"}, "{}", 404, "UnknownOperationException", ".*DynamoDB_20120810.ListTables.*"},
		{"root", "GET", "/", nil, "", 404, "UnknownOperationException", ".*"},
		{"native path", "GET", "/_thaw/nonsense", nil, "", 404, "UnknownOperationException", ".*/_thaw/nonsense.*"},
		{"JSON that is none", "POST", functionsPath, nil, "{", 400, "SerializationException", ".+"},
		{"JSON of another kind", "POST", functionsPath, nil, "[]", 400, "SerializationException", ".+"},
		{"JSON null", "PUT", functionsPath + "/good/configuration", nil, `{"Timeout":{}}`, 400, "SerializationException", ".+"},
		{"deep JSON", "POST", functionsPath, nil, `{"Tags":` + strings.Repeat(`{"a":`, 20000), 400, "SerializationException", ".+"},
		{"base64 that is none", "POST", functionsPath, nil, `{"FunctionName":"x","Runtime":"python3.11","Handler":"f.h","Role":"arn:aws:iam::000000000000:role/any","Code":{"ZipFile":"***"}}`, 400, "SerializationException", ".+"},
		{"a query that is none", "GET", functionsPath + "?MaxItems=abc", nil, "", 400, "SerializationException", "'abc' can not be converted to Integer"},
		{"marker of another list", "GET", functionsPath + "?Marker=%25", nil, "", 400, "InvalidParameterValueException", "Marker is not one .*"},
		{"body of a megabyte where none belongs", "GET", functionsPath + "/good", nil, strings.Repeat(" ", 1<<20), 200, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := s.call(t, test.method, test.path, test.header, strings.NewReader(test.body))
			if test.status == 200 {
				if a.status != 200 {
					t.Errorf("%d %s", a.status, a.payload)
				}
				return
			}
			refused(t, a, test.status, test.code, test.message)
		})
	}
	t.Run("huge headers", func(t *testing.T) {
		response := s.raw(t, "GET /_thaw/health HTTP/1.1\r\nHost: HOST\r\nX-Large: "+strings.Repeat("x", 80<<10)+"\r\n\r\n", false)
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s", response.Status)
		}
	})
	t.Run("truncated body", func(t *testing.T) {
		response := s.raw(t, "POST "+functionsPath+"/good/invocations HTTP/1.1\r\nHost: HOST\r\nContent-Length: 100\r\n\r\n{\"a\":", true)
		if response.StatusCode != 400 || response.Header.Get("X-Amzn-Errortype") != "InvalidRequestContentException" {
			t.Errorf("%s %v", response.Status, response.Header)
		}
		response = s.raw(t, "POST "+functionsPath+" HTTP/1.1\r\nHost: HOST\r\nContent-Length: 100\r\n\r\n{\"a\":", true)
		if response.StatusCode != 400 || response.Header.Get("X-Amzn-Errortype") != "SerializationException" {
			t.Errorf("%s %v", response.Status, response.Header)
		}
	})
	t.Run("not HTTP", func(t *testing.T) {
		for _, text := range []string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET http://[ HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n"} {
			if response := s.raw(t, text, false); response.StatusCode/100 != 4 && response.StatusCode/100 != 5 {
				t.Errorf("%q: %s", text, response.Status)
			}
		}
	})
	t.Run("foreign host", func(t *testing.T) {
		for _, host := range []string{"evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""} {
			response := s.raw(t, "POST "+functionsPath+"/good/invocations HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 2\r\n\r\n{}", false)
			if response.StatusCode != http.StatusForbidden {
				t.Errorf("Host %q: %s", host, response.Status)
			}
		}
	})
}

func codeOf(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

// TestUpdatesAtOnce: of updates that start from the same revision exactly one wins; while an update is under way every
// other is refused, and the old code serves.
func TestUpdatesAtOnce(t *testing.T) {
	s := startStage(t)
	source := func(what string) string { return fmt.Sprintf("def handler(e, c): return %q\n", what) }
	s.python(t, "contended", source("old"), deployed{})
	const rivals = 16
	for round := range 3 {
		c, err := s.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("contended")})
		if err != nil {
			t.Fatal(err)
		}
		results := make([]error, rivals)
		var group sync.WaitGroup
		begin := make(chan struct{})
		for n := range rivals {
			archive := harness.Zip(t, map[string]string{"f.py": source(fmt.Sprint(round, "-", n))})
			group.Go(func() {
				<-begin
				_, results[n] = s.client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{
					FunctionName: aws.String("contended"), ZipFile: archive, RevisionId: c.RevisionId,
				})
			})
		}
		close(begin)
		group.Wait()
		winner := -1
		for n, err := range results {
			switch code := codeOf(err); {
			case err == nil && winner < 0:
				winner = n
			case err == nil:
				t.Errorf("%d and %d both won", winner, n)
			case code != "ResourceConflictException" && code != "PreconditionFailedException":
				t.Errorf("%d: %v", n, err)
			}
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		s.awaitUpdate(t, "contended")
		s.succeed(t, "contended", "{}", fmt.Sprintf("%q", fmt.Sprint(round, "-", winner)))
	}

	files := map[string]string{"f.py": source("large")}
	for n := range 12000 {
		files[fmt.Sprintf("lib/%d/%d", n%100, n)] = "x"
	}
	before := s.invoke(t, "contended", "{}").payload
	large := harness.Zip(t, files)
	if _, err := s.client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("contended"), ZipFile: large}); err != nil {
		t.Fatal(err)
	}
	refusals := make([]error, rivals)
	var group sync.WaitGroup
	for n := range rivals {
		group.Go(func() {
			_, refusals[n] = s.client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("contended"), Timeout: aws.Int32(int32(10 + n))})
		})
	}
	group.Wait()
	during := s.invoke(t, "contended", "{}").payload
	c, err := s.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("contended")})
	if err != nil {
		t.Fatal(err)
	}
	if c.LastUpdateStatus != types.LastUpdateStatusInProgress {
		t.Skip("this machine unpacks 12,000 files before 16 requests have been answered")
	}
	for _, err := range refusals {
		if codeOf(err) != "ResourceConflictException" || !strings.Contains(err.Error(), "The operation cannot be performed at this time. An update is in progress for resource: arn:aws:lambda:us-east-1:000000000000:function:contended") {
			t.Errorf("while an update is under way: %v", err)
		}
	}
	if during != before {
		t.Errorf("while an update is under way %s answers, not %s", during, before)
	}
	s.awaitUpdate(t, "contended")
	s.succeed(t, "contended", "{}", `"large"`)
}

// TestDeletingWhatRuns: the running invocation finishes, later ones find nothing, and a new function of the name never
// runs the old one's code.
func TestDeletingWhatRuns(t *testing.T) {
	s := startStage(t)
	const name = "phoenix"
	s.python(t, name, "import time\ndef handler(e, c):\n    if e:\n        print('running')\n        time.sleep(e)\n    return 'old'\n", deployed{timeout: 30})
	s.succeed(t, name, "0", `"old"`)
	done := make(chan *answer, 1)
	go func() {
		a, err := s.tryCall(t.Context(), http.MethodPost, functionsPath+"/"+name+"/invocations", invokeHeaders, strings.NewReader("2"))
		if err != nil {
			t.Error(err)
			a = &answer{}
		}
		done <- a
	}()
	s.awaitEvent(t, name, func(e logEvent) bool { return e.Message == "running\n" })
	if a := s.call(t, http.MethodDelete, functionsPath+"/"+name, nil, nil); a.status/100 != 2 {
		t.Fatalf("%d %s", a.status, a.payload)
	}
	for _, path := range []string{"", "/configuration"} {
		refused(t, s.call(t, http.MethodGet, functionsPath+"/"+name+path, nil, nil), 404, "ResourceNotFoundException", "Function not found: .*")
	}
	refused(t, s.call(t, http.MethodPost, functionsPath+"/"+name+"/invocations", nil, strings.NewReader("0")), 404, "ResourceNotFoundException", "Function not found: .*")
	for n := range 5 {
		what := fmt.Sprint("new ", n)
		s.python(t, name, fmt.Sprintf("def handler(e, c): return %q\n", what), deployed{})
		for range 5 {
			s.succeed(t, name, "0", fmt.Sprintf("%q", what))
		}
		if n < 4 {
			if a := s.call(t, http.MethodDelete, functionsPath+"/"+name, nil, nil); a.status/100 != 2 {
				t.Fatalf("%d %s", a.status, a.payload)
			}
		}
	}
	if a := <-done; a.status != 200 || a.payload != `"old"` {
		t.Errorf("the invocation that was running when its function was deleted gave %d %s", a.status, a.payload)
	}
	if a := s.succeed(t, name, "0", `"new 4"`); a.explanation.Kind != "warm" {
		t.Errorf("the old environment's end cost the new function its own: %+v", a.explanation)
	}
}

// TestManyFunctions creates 2,000 functions and lists them page by page.
func TestManyFunctions(t *testing.T) {
	s := startStage(t)
	before := s.memory(t, "VmRSS")
	const functions, workers = 2000, 8
	input := deployed{runtime: "python3.11", handler: "f.handler", files: map[string]string{"f.py": "def handler(e, c): return 'one of many'\n"}, tags: booted}.input(t, "")
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for n := w; n < functions; n += workers {
				own := *input
				own.FunctionName = aws.String(fmt.Sprintf("many-%04d", n))
				if _, err := s.client.CreateFunction(t.Context(), &own); err != nil {
					t.Errorf("%s: %v", *own.FunctionName, err)
					return
				}
			}
		})
	}
	group.Wait()
	list := func() (names []string, pages int, active bool) {
		active = true
		paginator := lambda.NewListFunctionsPaginator(s.client, &lambda.ListFunctionsInput{})
		for paginator.HasMorePages() {
			page, err := paginator.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, f := range page.Functions {
				names = append(names, *f.FunctionName)
				active = active && f.State == ""
			}
		}
		return names, pages, active
	}
	names, pages, _ := list()
	if len(names) != functions || pages != functions/50 {
		t.Errorf("%d functions are listed on %d pages", len(names), pages)
	}
	for n, name := range names {
		if want := fmt.Sprintf("many-%04d", n); name != want {
			t.Fatalf("the list has %s for %s", name, want)
		}
	}
	for _, n := range []int{0, functions / 2, functions - 1} {
		name := fmt.Sprintf("many-%04d", n)
		s.awaitUpdate(t, name)
		s.succeed(t, name, "{}", `"one of many"`)
	}
	after := s.memory(t, "VmRSS")
	t.Logf("the platform's memory: %d MB before, %d MB with %d functions, %d MB at most", before>>20, after>>20, functions, s.memory(t, "VmHWM")>>20)
	if after > before+128<<20 {
		t.Errorf("%d functions cost %d MB", functions, (after-before)>>20)
	}
}

package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"crypto/sha256"
)

// fakePlatform answers as much of the Lambda API and the native API as the verbs use, from memory, and records what it
// was asked. A function is Pending, and an update InProgress, for the first pollsUntilActive look-ups.
type fakePlatform struct {
	*httptest.Server
	pollsUntilActive int
	failUpdate       string                           // reason for which each change ends in failure
	foreign          bool                             // it is a Lambda API, but not thaw
	pages            func(after string, n int) string // answers GET /_thaw/functions; n counts the readings before
	readings         int
	empty            bool // it has no queues and no events

	mu        sync.Mutex
	functions map[string]*fakeFunction
	requests  []string // "METHOD path" of each change and invocation, with what matters of its headers
}

type fakeFunction struct {
	config map[string]any
	polls  int
}

const fakeAccount = "123456789012"

func newFakePlatform(t *testing.T) *fakePlatform {
	f := &fakePlatform{functions: map[string]*fakeFunction{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_thaw/health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"status":"ok","version":"test","region":"eu-central-1","account":%q,"runtimes":["python3.9","python3.11","nodejs20.x"]}`, fakeAccount)
	})
	mux.HandleFunc("GET /_thaw/logs", f.logs)
	mux.HandleFunc("GET /_thaw/functions", f.nativeList)
	mux.HandleFunc("GET /_thaw/functions/{name}", f.native)
	mux.HandleFunc("POST /2015-03-31/functions", f.create)
	mux.HandleFunc("GET /2015-03-31/functions", f.list)
	mux.HandleFunc("GET /2015-03-31/functions/{name}", f.get)
	mux.HandleFunc("DELETE /2015-03-31/functions/{name}", f.remove)
	mux.HandleFunc("GET /2015-03-31/functions/{name}/configuration", f.get)
	mux.HandleFunc("PUT /2015-03-31/functions/{name}/{part}", f.update)
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", f.invoke)
	f.handleEvents(mux)
	mux.HandleFunc("POST /service/GraniteServiceVersion20100801/operation/{operation}", f.cloudwatch)
	mux.HandleFunc("POST /2015-03-31/functions/{name}/policy", f.permit)
	f.handleRecords(mux)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			r.URL.Path = strings.TrimSuffix(r.URL.Path, "/")
		}
		if f.foreign && strings.HasPrefix(r.URL.Path, "/_thaw/") {
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakePlatform) record(format string, args ...any) {
	f.requests = append(f.requests, fmt.Sprintf(format, args...))
}

func (f *fakePlatform) fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Amzn-ErrorType", code)
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"Type":"User","Message":%q}`, message)
}

// find answers 404 itself when there is no such function. The caller holds mu.
func (f *fakePlatform) find(w http.ResponseWriter, name string) *fakeFunction {
	fn, ok := f.functions[name]
	if !ok {
		f.fail(w, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:eu-central-1:"+fakeAccount+":function:"+name)
	}
	return fn
}

func (f *fakePlatform) create(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.fail(w, 400, "InvalidRequestContentException", err.Error())
		return
	}
	zip, _ := base64.StdEncoding.DecodeString(in["Code"].(map[string]any)["ZipFile"].(string))
	delete(in, "Code")
	name := in["FunctionName"].(string)
	body, _ := json.Marshal(in)
	f.record("create %s", body)
	in["FunctionArn"] = "arn:aws:lambda:eu-central-1:" + fakeAccount + ":function:" + name
	in["LastModified"] = "2026-01-02T03:04:05.000+0000"
	in["State"] = "Pending"
	fn := &fakeFunction{config: in}
	f.functions[name] = fn
	fn.setCode(zip)
	w.WriteHeader(201)
	_ = json.NewEncoder(w).Encode(in)
}

func (fn *fakeFunction) setCode(zip []byte) {
	sum := sha256.Sum256(zip)
	fn.config["CodeSha256"] = base64.StdEncoding.EncodeToString(sum[:])
	fn.config["CodeSize"] = len(zip)
}

func (f *fakePlatform) update(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn := f.find(w, r.PathValue("name"))
	if fn == nil {
		return
	}
	if fn.config["LastUpdateStatus"] == "InProgress" {
		f.fail(w, 409, "ResourceConflictException", "The operation cannot be performed at this time. An update is in progress for resource: x")
		return
	}
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	if z, ok := in["ZipFile"].(string); ok {
		zip, _ := base64.StdEncoding.DecodeString(z)
		fn.setCode(zip)
		delete(in, "ZipFile")
	}
	body, _ := json.Marshal(in)
	f.record("update %s %s %s", r.PathValue("part"), r.PathValue("name"), body)
	for k, v := range in {
		fn.config[k] = v
	}
	fn.config["LastUpdateStatus"] = "InProgress"
	fn.polls = 0
	_ = json.NewEncoder(w).Encode(fn.config)
}

func (f *fakePlatform) get(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn := f.find(w, r.PathValue("name"))
	if fn == nil {
		return
	}
	if fn.polls++; fn.polls > f.pollsUntilActive {
		fn.config["State"] = "Active"
		if f.failUpdate != "" {
			fn.config["LastUpdateStatus"], fn.config["LastUpdateStatusReason"] = "Failed", f.failUpdate
		} else {
			fn.config["LastUpdateStatus"] = "Successful"
		}
	}
	if strings.HasSuffix(r.URL.Path, "/configuration") {
		_ = json.NewEncoder(w).Encode(fn.config)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Configuration": fn.config})
}

// fakeTemplates are what the functions of these names have; every other has a template.
var fakeTemplates = map[string]string{
	"building": `{"state":"building"}`,
	"evicted":  `{"state":"evicted","reasons":["the machine was short of memory; it is made again when there is enough"],"init_ms":87.1}`,
	"failing":  `{"state":"failed","reasons":["3 forks in a row failed, the last one: sandbox: no room; it is tried again, attempt 2 of 10"],"init_ms":87.1}`,
	"off":      `{"state":"off","reasons":["the tag thaw:snapshot is off"]}`,
	"unsafe":   `{"state":"unsafe","reasons":["it is connected to db.example:5432","it runs a thread called reporter"],"init_ms":87.1}`,
}

func (f *fakePlatform) native(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := r.PathValue("name")
	switch {
	case f.find(w, name) == nil:
	case name == "unseen":
		f.fail(w, 500, "ServiceException", "The state cannot be read.")
	default:
		fmt.Fprintf(w, `{"name":%q,"function_version":"$LATEST","state":"Active","template":%s,"environments":{"busy":1,"idle":2,"spares":2,"wanted":4,"starts":0}%s}`,
			name, first(fakeTemplates[name], `{"state":"ready","init_ms":412.4}`), fakeVersions[name])
	}
}

// fakeVersions are what the native API shows of versions, by the function's name.
var fakeVersions = map[string]string{"versions": `,"versions":[
	{"version":"$LATEST","state":"Active","template":{"state":"ready","init_ms":412.4},"provisioned":{"wanted":0,"allocated":0,"available":0}},
	{"version":"1","state":"Inactive","template":{"state":""},"provisioned":{"wanted":0,"allocated":0,"available":0}},
	{"version":"2","state":"Active","template":{"state":"ready","init_ms":390},"provisioned":{"wanted":5,"allocated":4,"available":2}}]`}

// list gives one function a page, so that paging is used.
func (f *fakePlatform) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.functions {
		if name > r.URL.Query().Get("Marker") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := map[string]any{"Functions": []any{}}
	if len(names) > 0 {
		out["Functions"] = []any{f.functions[names[0]].config}
	}
	if len(names) > 1 {
		out["NextMarker"] = names[0]
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (f *fakePlatform) remove(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.find(w, r.PathValue("name")) == nil {
		return
	}
	delete(f.functions, r.PathValue("name"))
	w.WriteHeader(204)
}

const fakeInvocation = `{"request_id":"00000000-0000-4000-8000-000000000001","start_kind":"boot","cause":"first","environment":"0123456789abcdef0123456789abcdef",` +
	`"phases":{"admit":20,"place":100,"sandbox":3000,"runtime":12000,"init":4000,"handler":500,"respond":80},"duration_us":500,"init_us":16000,"billed_ms":1,"memory_mb":128,"max_memory_mb":31}`

// fakeStarts are the other invocations, by the function's name.
var fakeStarts = map[string]string{
	"forked": `{"request_id":"00000000-0000-4000-8000-000000000002","start_kind":"fork","cause":"scale-out","environment":"1123456789abcdef0123456789abcdef","error_type":"",` +
		`"phases":{"admit":20,"place":100,"runtime":2100,"restore":900,"handler":500,"respond":80},"duration_us":500,"init_us":3000,"restore_us":0,"billed_ms":4,"memory_mb":128,"max_memory_mb":31}`,
	"restored": `{"request_id":"00000000-0000-4000-8000-000000000003","start_kind":"fork","cause":"first","environment":"2123456789abcdef0123456789abcdef","error_type":"",` +
		`"phases":{"admit":20,"place":100,"runtime":2100,"restore":900,"handler":500,"respond":80},"duration_us":500,"init_us":0,"restore_us":3000,"billed_ms":2,"memory_mb":128,"max_memory_mb":31}`,
	"parts": `{"request_id":"00000000-0000-4000-8000-000000000005","start_kind":"boot","cause":"first","environment":"4123456789abcdef0123456789abcdef","error_type":"",` +
		`"phases":{"admit":20,"place":100,"sandbox":3000,"runtime":12000,"init":4000,"handler":500,"respond":80},"duration_us":2500,"init_us":16000,"restore_us":0,"failed_init_us":20000,"post_runtime_us":2000,"billed_ms":19,"memory_mb":128,"max_memory_mb":31}`,
	"spared": `{"request_id":"00000000-0000-4000-8000-000000000004","start_kind":"spare","cause":"first","environment":"3123456789abcdef0123456789abcdef","error_type":"",` +
		`"phases":{"admit":20,"place":60,"handler":500,"respond":80},"duration_us":500,"init_us":0,"restore_us":0,"billed_ms":1,"memory_mb":128,"max_memory_mb":31}`,
}

// invoke echoes the event, except for a function named fails.
func (f *fakePlatform) invoke(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := r.PathValue("name")
	event, _ := io.ReadAll(r.Body)
	f.record("invoke %s start=%s type=%s %s", name, r.Header.Get("X-Thaw-Start"), r.Header.Get("X-Amz-Invocation-Type"), event)
	switch name {
	case "busy":
		w.Header().Set("Retry-After", "1")
		f.fail(w, 429, "TooManyRequestsException", "Rate Exceeded.")
		return
	case "missing":
		f.find(w, name)
		return
	}
	w.Header().Set("X-Amz-Executed-Version", "$LATEST")
	if r.Header.Get("X-Thaw-Explain") == "true" {
		w.Header().Set("X-Thaw-Invocation", first(fakeStarts[name], fakeInvocation))
	}
	if r.Header.Get("X-Amz-Log-Type") == "Tail" {
		w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte("START RequestId: 1 Version: $LATEST\nhello\nEND RequestId: 1\n")))
	}
	switch {
	case r.Header.Get("X-Amz-Invocation-Type") == "Event":
		w.WriteHeader(202)
	case name == "fails":
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		fmt.Fprint(w, `{"errorMessage": "no such key", "errorType": "KeyError", "stackTrace": ["  File \"/var/task/app.py\", line 2, in handler\n    return event['a']\n"]}`)
	default:
		_, _ = w.Write(event)
	}
}

func (f *fakePlatform) logs(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("function") == "missing" {
		f.fail(w, 404, "ResourceNotFoundException", "Function not found: missing")
		return
	}
	if r.URL.Query().Get("function") == "silent" {
		return
	}
	fmt.Fprintln(w, `{"timestamp":1767323045000,"stream":"s","request_id":"1","message":"START RequestId: 1 Version: $LATEST\n"}`)
	fmt.Fprintln(w, `{"timestamp":1767323045001,"stream":"s","request_id":"1","message":"<two>\nlines"}`)
	if r.URL.Query().Get("follow") == "true" {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

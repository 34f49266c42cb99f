package cli

import (
	"fmt"
	"net/http"
	"strings"
)

const fakeVerdict = `{"summary":"The invocation took 547 ms, of which 520 ms (95 %) were init.","dominant":"init",` +
	`"start":"It ran in an environment that was booted for it, since nothing had run this version since the platform started (first).",` +
	`"not_forked":"It was not forked: the tag thaw:snapshot is off.",` +
	`"findings":[{"phase":"init","length_us":412000,"what":"import pandas took 412 of 520 ms of init (200 ms of it numpy).","do":"Import it inside the handler that needs it, or let thaw fork the environments: thaw:snapshot is off because the function has the tag thaw:snapshot=off; remove it."},` +
	`{"phase":"init","length_us":90000,"what":"import boto3 took 90 of 520 ms of init."}]}`

const fakeRecord = `"request_id":"00000000-0000-4000-8000-000000000001","function":"hello","function_version":"$LATEST","start":"2026-01-02T03:04:05.678Z",` +
	`"start_kind":"boot","cause":"first","total_us":547300,"before_handler_us":544300,"phases":[{"phase":"admit","start_us":0,"length_us":100},` +
	`{"phase":"place","start_us":100,"length_us":200},{"phase":"sandbox","start_us":300,"length_us":4000},{"phase":"runtime","start_us":4300,"length_us":20000},` +
	`{"phase":"init","start_us":24300,"length_us":520000},{"phase":"handler","start_us":544300,"length_us":3000}],"duration_us":3000,"init_us":540000,` +
	`"billed_ms":543,"memory_mb":128,"max_memory_mb":97,"environment":"0123456789abcdef0123456789abcdef","trace_id":"Root=1-5759e988-bd862e3fe1be46a994272793"`

const fakeProfile = `{"id":"0123456789abcdef0123456789abcdef","function_version":"$LATEST","at":"2026-01-02T03:04:05Z","length_us":520000,"dropped":3,"modules":[` +
	`{"name":"app","parent":-1,"kind":"import","file":"/var/task/app.py","bytes":310,"start_us":0,"self_us":8000,"total_us":520000},` +
	`{"name":"json","parent":0,"kind":"import","start_us":0,"self_us":10000,"total_us":10000},` +
	`{"name":"pandas","parent":0,"kind":"import","bytes":2048,"start_us":0,"self_us":50000,"total_us":412000},` +
	`{"name":"pandas.core","parent":2,"kind":"import","start_us":0,"self_us":162000,"total_us":162000},` +
	`{"name":"numpy","parent":2,"kind":"import","bytes":1300000,"start_us":0,"self_us":200000,"total_us":200000},` +
	`{"name":"boto3","parent":0,"kind":"import","start_us":0,"self_us":90000,"total_us":90000},` +
	`{"name":"lies","parent":9,"kind":"import","start_us":0,"self_us":-5,"total_us":1,"failed":true}],` +
	`"connections":[{"host":"db.example","address":"10.0.0.1:5432","start_us":500000,"dns_us":1500,"tcp_us":300,"tls_us":9000,"module":5},{"address":"10.0.0.2:1","start_us":1,"module":-1,"error":"connection refused"}]}`

// handleRecords answers for records of invocations: one synchronous, and one with two attempts.
func (f *fakePlatform) handleRecords(mux *http.ServeMux) {
	mux.HandleFunc("GET /_thaw/invocations/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		switch id[len(id)-1] {
		case '1':
			fmt.Fprintf(w, `{"request_id":%q,"function":"hello","attempts":[{%s,"verdict":%s,"profile":%s}],"dropped_records":7}`, id, fakeRecord, fakeVerdict, fakeProfile)
		case '2':
			warm := strings.NewReplacer(`000000000001"`, `000000000002"`, `"boot"`, `"warm"`, `"cause":"first",`, ``, `{"phase":"init","start_us":24300,"length_us":520000},`, ``).Replace(fakeRecord)
			verdict := `{"summary":"Attempt %d took 3.1 ms, of which 3.0 ms were the handler.","start":"It ran in a warm environment, which had served before."}`
			fmt.Fprintf(w, `{"request_id":%q,"function":"hello","attempts":[{%s,"async":true,"error_type":"KeyError","verdict":%s},{%s,"async":true,"verdict":%s}]}`,
				id, warm, fmt.Sprintf(verdict, 1), warm, fmt.Sprintf(verdict, 2))
		case '3': // its first init failed, and extensions go on when the caller has its response
			fmt.Fprintf(w, `{"request_id":%q,"function":"hello","attempts":[{%s,"verdict":%s}]}`, id, strings.NewReplacer(
				`000000000001"`, `000000000003"`, `"total_us":547300`, `"total_us":1047800,"failed_init_us":500000,"post_runtime_us":200000`, `"start_us":300`, `"start_us":500300`,
				`"start_us":4300`, `"start_us":504300`, `"start_us":24300`, `"start_us":524300`,
				`{"phase":"handler","start_us":544300,"length_us":3000}`, `{"phase":"handler","start_us":1044300,"length_us":3000},{"phase":"respond","start_us":1047300,"length_us":500}`).Replace(fakeRecord), fakeVerdict)
		case '4': // the caller waits for extensions
			fmt.Fprintf(w, `{"request_id":%q,"function":"hello","attempts":[{%s,"verdict":%s}]}`, id, strings.NewReplacer(
				`000000000001"`, `000000000004"`, `"total_us":547300`, `"total_us":747800,"post_runtime_us":200000`,
				`{"phase":"handler","start_us":544300,"length_us":3000}`, `{"phase":"handler","start_us":544300,"length_us":3000},{"phase":"respond","start_us":747300,"length_us":500}`).Replace(fakeRecord), fakeVerdict)
		default:
			f.fail(w, 404, "ResourceNotFoundException", "There is no record of the request "+id+".")
		}
	})
	mux.HandleFunc("GET /_thaw/functions/{name}/starts", func(w http.ResponseWriter, r *http.Request) {
		switch name := r.PathValue("name"); name {
		case "missing":
			f.fail(w, 404, "ResourceNotFoundException", "Function not found: missing")
		case "warm":
			fmt.Fprintf(w, `{"function":%q,"since":"2026-01-02T03:00:00Z","kinds":[],"template":{"state":"ready","init_ms":412},"invocations":5,"throttles":0}`, name)
		default:
			fmt.Fprintf(w, `{"function":%q,"since":"2026-01-02T03:00:00Z","kinds":[
				{"start_kind":"boot","count":37,"failed":1,"causes":{"scale-out":30,"first":7},"sum_us":20000000,"median_us":544300,"max_us":1200000,"phases":{"init":520000}},
				{"start_kind":"fork","count":3,"causes":{"deployed":3},"sum_us":27000,"median_us":9000,"max_us":10000,"phases":{"runtime":8000}}],
				"template":{"state":"off","reasons":["the tag thaw:snapshot is off"]},"invocations":1234,"throttles":2,
				"throttled":[{"reason":"ReservedFunctionConcurrentInvocationLimitExceeded","count":2,"what":"As many ran at the same time as the function's reserved concurrency lets.","do":"Raise it: PutFunctionConcurrency."}],
				"typical":{"start_kind":"boot",%s,"verdict":%s},"slowest":[{%s}]}`, name, fakeRecord, fakeVerdict, fakeRecord)
		}
	})
}

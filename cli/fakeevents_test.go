package cli

import (
	"crypto/md5" //nolint:gosec // SQS's own checksum
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
)

// handleEvents adds the queues orders and orders-dead, and the events of the functions hello and silent.
func (f *fakePlatform) handleEvents(mux *http.ServeMux) {
	mux.HandleFunc("POST /{$}", f.sqs)
	mux.HandleFunc("GET /_thaw/queues", f.queues)
	mux.HandleFunc("GET /_thaw/queues/{name}", f.queue(`{"name":"orders","fifo":false,"waiting":3,"in_flight":1,"delayed":0,"bytes":2048,"oldest_age_ms":312000,
		"dead_letters":{"queue":"orders-dead","max_receives":3},"dead_letter_of":["other"],
		"mappings":[{"id":"00000000-0000-4000-8000-00000000000a","function":"hello:live","state":"Enabled","last_result":"OK"}]}`))
	mux.HandleFunc("GET /_thaw/queues/{name}/messages", f.queue(`{"messages":[
		{"id":"00000000-0000-4000-8000-00000000000b","sequence":7,"age_ms":400,"receives":0,"body":"{\"n\":1}"},
		{"id":"00000000-0000-4000-8000-00000000000c","sequence":9,"age_ms":7500000,"receives":1,"group":"g","dead_from":"other","attributes":{"Colour":{"type":"String","string":"red"}},"body":"<two>\nlines\n"}],"after":9}`))
	mux.HandleFunc("POST /_thaw/queues/{name}/redrive", f.queue(`{"count":2,"left":1}`))
	mux.HandleFunc("POST /_thaw/queues/{name}/purge", f.queue(`{"count":1}`))
	mux.HandleFunc("GET /_thaw/events", f.events)
	mux.HandleFunc("GET /_thaw/events/{name}", f.function(`{"name":"hello","waiting":0,"running":1,"retrying":1,"dead":1,"bytes":3000,"oldest_age_ms":61000,
		"accepted":12,"attempts":16,"succeeded":9,"function_errors":4,"throttles":2,"failed":2,"died":1,"delivery_failures":1,"problem":"no queue is named gone","problem_age_ms":7300000,"events":[
		{"id":"00000000-0000-4000-8000-00000000000d","state":"running","qualifier":"live","age_ms":1,"attempts":0,"bytes":2},
		{"id":"00000000-0000-4000-8000-00000000000e","state":"retrying","age_ms":61000,"attempts":1,"throttles":2,"next_try_ms":45000,"error":"KeyError: 'a'","bytes":2},
		{"id":"00000000-0000-4000-8000-00000000000f","state":"dead","age_ms":7300000,"attempts":3,"error":"KeyError: 'b'","condition":"RetriesExhausted","reason":"no queue is named gone","bytes":2}]%s}`))
	mux.HandleFunc("POST /_thaw/events/{name}/redrive", f.function(`{"count":1%s}`))
	mux.HandleFunc("POST /_thaw/events/{name}/discard", f.function(`{"count":0%s}`))
}

// queues gives one queue a page.
func (f *fakePlatform) queues(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.empty:
		fmt.Fprint(w, `{"queues":[]}`)
	case r.URL.Query().Get("after") == "":
		fmt.Fprint(w, `{"queues":[{"name":"orders","fifo":false,"waiting":3,"in_flight":1,"delayed":12,"bytes":2048,"oldest_age_ms":312000,"dead_letters":{"queue":"orders-dead","max_receives":1}}],"after":"orders"}`)
	default:
		fmt.Fprint(w, `{"queues":[{"name":"orders-dead","fifo":false,"waiting":0,"in_flight":0,"delayed":0,"bytes":0}]}`)
	}
}

// queue answers for any queue that is not called missing.
func (f *fakePlatform) queue(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.record("%s %s", r.Method, r.URL)
		if r.PathValue("name") == "missing" {
			f.fail(w, 404, "ResourceNotFoundException", "There is no queue named missing.")
			return
		}
		fmt.Fprint(w, answer)
	}
}

// sqs is as much of the SQS API as sending takes.
func (f *fakePlatform) sqs(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	body, _ := json.Marshal(in)
	f.record("%s %s", r.Header.Get("X-Amz-Target"), body)
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	switch {
	case in["QueueName"] == "missing":
		w.Header().Set("X-Amzn-Query-Error", "AWS.SimpleQueueService.NonExistentQueue;Sender")
		w.WriteHeader(400)
		fmt.Fprint(w, `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}`)
	case r.Header.Get("X-Amz-Target") == "AmazonSQS.GetQueueUrl":
		fmt.Fprintf(w, `{"QueueUrl":"%s/%s/%s"}`, f.URL, fakeAccount, in["QueueName"])
	default:
		sum := md5.Sum([]byte(in["MessageBody"].(string))) //nolint:gosec // as above
		fmt.Fprintf(w, `{"MessageId":"00000000-0000-4000-8000-000000000010","MD5OfMessageBody":%q}`, hex.EncodeToString(sum[:]))
	}
}

func (f *fakePlatform) events(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.empty:
		fmt.Fprint(w, `{"functions":[]}`)
	case r.URL.Query().Get("after") == "":
		fmt.Fprint(w, `{"functions":[{"name":"hello","waiting":0,"running":1,"retrying":1,"dead":1,"oldest_age_ms":61000}],"after":"hello",
			"deliveries":{"waiting":1,"delivered":7,"dead_letters":0,"dropped":1,"failures":[{"age_ms":60000,"id":"00000000-0000-4000-8000-000000000011",
			"source":"arn:aws:events:eu-central-1:123456789012:rule/nightly","target":"arn:aws:lambda:eu-central-1:123456789012:function:gone","status":"dropped","error":"Function not found"}]}}`)
	default:
		fmt.Fprint(w, `{"functions":[{"name":"silent","waiting":120,"running":16,"retrying":0,"dead":0,"oldest_age_ms":900}]}`)
	}
}

// function answers for any function that is not called missing; one whose name is paged has a further page.
func (f *fakePlatform) function(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.record("%s %s", r.Method, r.URL)
		switch r.PathValue("name") {
		case "missing":
			f.fail(w, 404, "ResourceNotFoundException", "Function not found: missing")
		case "paged":
			fmt.Fprintf(w, answer, `,"after":"abc"`)
		default:
			fmt.Fprintf(w, answer, "")
		}
	}
}

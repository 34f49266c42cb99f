package awsapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"thaw"
)

func newSQS(t testing.TB) *Service {
	t.Helper()
	s, err := New("sqs")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// post sends a form to a service.
func post(s http.Handler, path, form string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestQueryRoundTrip sends every operation of SQS in the query protocol, which no SDK at hand speaks any more, with every
// member set: the input as a form, the output as XML.
func TestQueryRoundTrip(t *testing.T) {
	s := newSQS(t)
	endpoint := "http://localhost"
	for _, c := range calls(s.model, clients["sqs"](endpoint)) {
		t.Run(c.name, func(t *testing.T) {
			f := filler{rand: rand.New(rand.NewPCG(1, 2))}
			var got any
			out := reflect.New(c.out)
			if err := s.handle(c.name, c.in, c.out, func(_ context.Context, in any) (any, error) { got = in; return out.Interface(), nil }); err != nil {
				t.Fatal(err)
			}
			h := s.handlers[c.name]
			f.structure(h.output, out.Elem())
			in := reflect.New(c.in)
			f.structure(h.input, in.Elem())
			if receive, ok := in.Interface().(*sdk.ReceiveMessageInput); ok { // two members have one name there
				receive.AttributeNames = nil //nolint:staticcheck // AWS still takes it
				for _, name := range receive.MessageSystemAttributeNames {
					receive.AttributeNames = append(receive.AttributeNames, types.QueueAttributeName(name)) //nolint:staticcheck // as above
				}
			}
			form := url.Values{"Action": {c.name}, "Version": {"2012-11-05"}}
			writeForm(form, h.input, in.Elem(), "")
			w := post(s, "/", form.Encode())
			if w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if diff := cmp.Diff(in.Interface(), got, same); diff != "" {
				t.Errorf("input, sent and received:\n%s", diff)
			}
			answer := readXML(t, w.Body.Bytes())
			if answer.XMLName.Local != c.name+"Response" || answer.XMLName.Space != "http://queue.amazonaws.com/doc/2012-11-05/" || answer.find("ResponseMetadata").find("RequestId").Text == "" {
				t.Errorf("%s", w.Body)
			}
			back := reflect.New(c.out)
			if result := answer.find(c.name + "Result"); result != nil {
				result.structure(h.output, back.Elem())
			}
			if diff := cmp.Diff(out.Interface(), back.Interface(), same); diff != "" {
				t.Errorf("output, given and received:\n%s", diff)
			}
		})
	}
}

// writeForm writes a value as the query protocol has it, for tests.
func writeForm(form url.Values, n *node, v reflect.Value, name string) {
	switch n.kind {
	case kindStructure:
		for i := range n.fields {
			f := &n.fields[i]
			if member, ok := held(v.Field(f.index)); ok {
				writeForm(form, f.node, member, strings.TrimPrefix(name+"."+f.Query, "."))
			}
		}
	case kindList:
		for i := range v.Len() {
			writeForm(form, n.elem, v.Index(i), name+"."+strconv.Itoa(i+1))
		}
	case kindMap:
		for i, key := range sortedKeys(v) {
			entry := name + "." + strconv.Itoa(i+1) + "."
			writeForm(form, n.key, key, entry+n.shape.Key.Wire)
			writeForm(form, n.elem, v.MapIndex(key), entry+n.shape.Value.Wire)
		}
	case kindBlob:
		form.Set(name, base64.StdEncoding.EncodeToString(v.Bytes()))
	default:
		form.Set(name, fmt.Sprint(v.Interface()))
	}
}

// element of an XML answer.
type xmlElement struct {
	XMLName  xml.Name
	Text     string       `xml:",chardata"`
	Children []xmlElement `xml:",any"`
}

func readXML(t testing.TB, text []byte) *xmlElement {
	t.Helper()
	var x xmlElement
	if err := xml.Unmarshal(text, &x); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return &x
}

func (x *xmlElement) find(name string) *xmlElement {
	for i := range x.Children {
		if x.Children[i].XMLName.Local == name {
			return &x.Children[i]
		}
	}
	return nil
}

// structure reads members, lists and maps of which are flattened.
func (x *xmlElement) structure(n *node, v reflect.Value) {
	for i := range n.fields {
		f := &n.fields[i]
		for _, child := range x.Children {
			if child.XMLName.Local == f.Query {
				child.member(f.node, v.Field(f.index))
			}
		}
	}
}

func (x *xmlElement) member(n *node, v reflect.Value) {
	switch n.kind {
	case kindStructure:
		x.structure(n, settle(v))
	case kindList:
		v.Set(reflect.Append(v, reflect.Zero(n.typ.Elem())))
		x.member(n.elem, v.Index(v.Len()-1))
	case kindMap:
		if v.IsNil() {
			v.Set(reflect.MakeMap(n.typ))
		}
		value := reflect.New(n.typ.Elem()).Elem()
		x.find(n.shape.Value.Wire).member(n.elem, value)
		v.SetMapIndex(reflect.ValueOf(x.find(n.shape.Key.Wire).Text).Convert(n.typ.Key()), value)
	case kindBlob:
		blob, _ := base64.StdEncoding.DecodeString(x.Text)
		v.SetBytes(blob)
	case kindString:
		settle(v).SetString(x.Text)
	case kindBoolean:
		settle(v).SetBool(x.Text == "true")
	default:
		number, _ := strconv.ParseInt(x.Text, 10, 64)
		settle(v).SetInt(number)
	}
}

// TestQueueErrors shows one error in both protocols: another code, the status of the model.
func TestQueueErrors(t *testing.T) {
	s := newSQS(t)
	var fail error
	Handle(s, "GetQueueUrl", func(context.Context, *sdk.GetQueueUrlInput) (*sdk.GetQueueUrlOutput, error) { return nil, fail })
	for _, c := range []struct {
		fail   error
		status int
		kind   string // in JSON
		code   string // in the header and in XML
		fault  string
	}{
		{thaw.Errorf(thaw.CodeQueueDoesNotExist, "No."), 400, "com.amazonaws.sqs#QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "Sender"},
		{thaw.Errorf(thaw.CodeQueueNameExists, "No."), 400, "com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists", "Sender"},
		{thaw.Errorf(thaw.CodePurgeInProgress, "No."), 403, "com.amazonaws.sqs#PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", "Sender"},
		{thaw.Errorf(thaw.CodeReceiptHandle, "No."), 404, "com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", "Sender"},
		{thaw.Errorf(thaw.CodeOverLimit, "No."), 403, "com.amazonaws.sqs#OverLimit", "OverLimit", "Sender"},
		{thaw.Errorf(thaw.CodeResourceNotFound, "No."), 404, "com.amazonaws.sqs#ResourceNotFoundException", "ResourceNotFoundException", "Sender"},
		{thaw.Errorf(thaw.CodeInvalidParameterValue, "No."), 400, "com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue", "Sender"},
		{thaw.Errorf(thaw.CodeMissingParameter, "No."), 400, "com.amazon.coral.service#MissingRequiredParameterException", "MissingParameter", "Sender"},
		{thaw.Errorf(thaw.CodeService, "No."), 500, "com.amazon.coral.service#ServiceException", "ServiceFailure", "Receiver"},
	} {
		fail = c.fail
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{"QueueName": "q"}`))
		r.Header.Set("X-Amz-Target", "AmazonSQS.GetQueueUrl")
		r.Header.Set("Content-Type", "application/x-amz-json-1.0")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var body map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != c.status || body["__type"] != c.kind || body["message"]+body["Message"] != "No." || w.Header().Get("X-Amzn-Query-Error") != c.code+";"+c.fault || w.Header().Get("Content-Type") != "application/x-amz-json-1.0" {
			t.Errorf("%v in JSON: %d %s %v", c.fail, w.Code, w.Body, w.Header())
		}
		w = post(s, "/", "Action=GetQueueUrl&QueueName=q")
		if code, text := queryError(t, w); w.Code != c.status || code != c.code || text != "No." || !bytes.Contains(w.Body.Bytes(), []byte("<Type>"+c.fault+"</Type>")) {
			t.Errorf("%v in XML: %d %s", c.fail, w.Code, w.Body)
		}
	}
}

// TestQueueURLOfThePath: in the query protocol the queue can be in the path, and an only element go without its number, as
// in the examples of AWS's documentation.
func TestQueueURLOfThePath(t *testing.T) {
	s := newSQS(t)
	var queue string
	var names, values []string
	Handle(s, "GetQueueAttributes", func(_ context.Context, in *sdk.GetQueueAttributesInput) (*sdk.GetQueueAttributesOutput, error) {
		queue, names = *in.QueueUrl, nil
		for _, name := range in.AttributeNames {
			names = append(names, string(name))
		}
		return nil, nil
	})
	Handle(s, "SetQueueAttributes", func(_ context.Context, in *sdk.SetQueueAttributesInput) (*sdk.SetQueueAttributesOutput, error) {
		values = append(values, in.Attributes["VisibilityTimeout"], strconv.Itoa(len(in.Attributes)))
		return nil, nil
	})
	for target, want := range map[string]string{
		"/123456789012/q":               "/123456789012/q",
		"/123456789012/q?QueueUrl=u":    "u",
		"/?QueueUrl=http%3A%2F%2Fh%2Fu": "http://h/u",
	} {
		if w := post(s, target, "Action=GetQueueAttributes&AttributeName=All"); w.Code != 200 || queue != want || !cmp.Equal(names, []string{"All"}) {
			t.Errorf("%s: %d %s, queue %q, names %q", target, w.Code, w.Body, queue, names)
		}
	}
	post(s, "/1/q", "Action=SetQueueAttributes&Attribute.Name=VisibilityTimeout&Attribute.Value=35")
	post(s, "/1/q", "Action=SetQueueAttributes&Attribute.1.Name=VisibilityTimeout&Attribute.1.Value=36&Attribute.2.Name=DelaySeconds")
	if want := []string{"35", "1", "36", "2"}; !cmp.Equal(values, want) {
		t.Errorf("%q, want %q", values, want)
	}
	if code, text := queryError(t, post(s, "/", "Action=GetQueueAttributes")); code != "MissingParameter" || text != "The request must contain the parameter QueueUrl." {
		t.Errorf("%s %s", code, text)
	}
}

// TestSQSIsKnown looks at requests that nobody has signed.
func TestSQSIsKnown(t *testing.T) {
	form := httptest.NewRequest("POST", "/123456789012/q", strings.NewReader("Action=ReceiveMessage&Version=2012-11-05"))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	plain := httptest.NewRequest("POST", "/123456789012/q", strings.NewReader("MessageBody=b&Action=SendMessage"))
	plain.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	nothing := httptest.NewRequest("POST", "/123456789012/q.fifo/", strings.NewReader("MessageBody=b"))
	nothing.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	target := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
	target.Header.Set("X-Amz-Target", "AmazonSQS.ReceiveMessage")
	for _, r := range []*http.Request{form, plain, nothing, target, httptest.NewRequest("GET", "/123456789012/q?Action=DeleteQueue", nil)} {
		if service, _ := Identify(r); service != "sqs" {
			t.Errorf("%s %s is for %q", r.Method, r.URL, service)
		}
	}
	for _, path := range []string{"/", "/123456789012", "/123456789012/", "/12345678901/q", "/123456789012/a/b", "/2015-03-31/functions"} {
		if service, _ := Identify(httptest.NewRequest("GET", path, nil)); service == "sqs" {
			t.Errorf("%s is a queue's", path)
		}
	}
}

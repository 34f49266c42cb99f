package awsapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"
	"github.com/google/go-cmp/cmp"

	"thaw/internal/ownbody"
)

// call is an SDK client's method for one operation, found by reflection so that a new operation is tested unasked.
type call struct {
	name    string
	in, out reflect.Type
	invoke  func(in reflect.Value) (reflect.Value, error)
}

// calls lists the operations of an SDK client that the model has with their shapes.
func calls(m *model, client any) []call {
	var list []call
	v := reflect.ValueOf(client)
	for i := range v.NumMethod() {
		name := v.Type().Method(i).Name
		if op := m.Operations[name]; op == nil || !op.Full {
			continue
		}
		method := v.Method(i)
		list = append(list, call{
			name: name, in: method.Type().In(1).Elem(), out: method.Type().Out(0).Elem(),
			invoke: func(in reflect.Value) (reflect.Value, error) {
				got := method.Call([]reflect.Value{reflect.ValueOf(context.Background()), in})
				err, _ := got[1].Interface().(error)
				return got[0], err
			},
		})
	}
	return list
}

// clients makes each service's SDK client for an endpoint. What is behind an @ names the protocol, for a service of which the
// client can be told.
var clients = map[string]func(url string) any{
	"lambda": func(url string) any {
		return lambda.New(lambda.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	},
	"iam": func(url string) any {
		return iam.New(iam.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	},
	"application-autoscaling": func(url string) any {
		return applicationautoscaling.New(applicationautoscaling.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	},
	"events": func(url string) any {
		return eventbridge.New(eventbridge.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	},
	"scheduler": func(url string) any {
		return scheduler.New(scheduler.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	},
	"sqs": func(url string) any {
		return sqs.New(sqs.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}, DisableMessageChecksumValidation: true})
	},
	"sts": func(url string) any {
		return sts.New(sts.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	},
	"logs": func(url string) any {
		return cloudwatchlogs.New(cloudwatchlogs.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}})
	},
	"monitoring":       func(url string) any { return watch(url, nil) },
	"monitoring@json":  func(url string) any { return watch(url, awsjson.New10(schemas.GraniteServiceVersion20100801)) },
	"monitoring@query": func(url string) any { return watch(url, awsquery.New(schemas.GraniteServiceVersion20100801)) },
}

// watch is a client of CloudWatch, in CBOR as the SDK has it unless it is told otherwise.
func watch(url string, protocol smithyhttp.ClientProtocol) *cloudwatch.Client {
	return cloudwatch.New(cloudwatch.Options{BaseEndpoint: &url, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: ownbody.Client{}, DisableRequestCompression: true}, func(o *cloudwatch.Options) {
		if protocol != nil {
			o.Protocol = protocol
		}
	})
}

// newService makes the service of a client, with the unions that its operations have.
func newService(t testing.TB, client string) *Service {
	t.Helper()
	name, _, _ := strings.Cut(client, "@")
	s, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	if name == "monitoring" {
		Union[cwtypes.EvaluationCriteria](s, &cwtypes.EvaluationCriteriaMemberPromQLCriteria{})
		Union[cwtypes.EvaluationWindow](s, &cwtypes.EvaluationWindowMemberSlidingWindow{}, &cwtypes.EvaluationWindowMemberWallClockWindow{})
	}
	return s
}

const region = "eu-west-1"

var creds = aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE0000", "secret", ""))

// TestRoundTrip sends every operation with every member set, through the real SDK client, and compares what the handler
// got with what was sent, and what the client got with what the handler gave.
func TestRoundTrip(t *testing.T) {
	for name, newClient := range clients {
		t.Run(name, func(t *testing.T) {
			s := newService(t, name)
			tape := newTape(t, name, s)
			server := httptest.NewServer(tape)
			defer server.Close()
			list := calls(s.model, newClient(server.URL))
			if len(list) < 3 {
				t.Fatalf("only %d operations found", len(list))
			}
			for _, c := range list {
				if s.model.stream(s.model.Operations[c.name]) != nil {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					testRoundTrip(t, s, c)
					tape.check(t, c.name)
				})
			}
			tape.save(t)
		})
	}
}

func testRoundTrip(t *testing.T, s *Service, c call) {
	f := filler{rand: rand.New(rand.NewPCG(1, 2))}
	var got any
	out := reflect.New(c.out)
	s.handle(c.name, c.in, c.out, func(_ context.Context, in any) (any, error) { got = in; return out.Interface(), nil })
	h := s.handlers[c.name]
	f.structure(h.output, out.Elem())
	in := reflect.New(c.in)
	f.structure(h.input, in.Elem())
	answer, err := c.invoke(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in.Interface(), got, same); diff != "" {
		t.Errorf("input, sent and received:\n%s", diff)
	}
	if diff := cmp.Diff(out.Interface(), answer.Interface(), same); diff != "" {
		t.Errorf("output, given and received:\n%s", diff)
	}
}

// same compares the SDK's structs: streams by content, without what only one side has.
var same = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool {
		name := p.Last().String()
		return name == ".ResultMetadata" || name == ".noSmithyDocumentSerde"
	}, cmp.Ignore()),
	cmp.FilterValues(func(a, b io.Reader) bool { return a != nil && b != nil }, cmp.Transformer("read", func(r io.Reader) string {
		if s, ok := r.(io.Seeker); ok {
			s.Seek(0, io.SeekStart)
		}
		text, _ := io.ReadAll(r)
		return string(text)
	})),
}

// filler sets every member of a struct to a value that satisfies the model.
type filler struct{ rand *rand.Rand }

func (f *filler) structure(n *node, v reflect.Value) {
	for i := range n.fields {
		m := &n.fields[i]
		if m.In == inStatus {
			v.Field(m.index).Set(reflect.ValueOf(int32(200)).Convert(m.node.typ))
			continue
		}
		f.value(m.node, settle(v.Field(m.index)))
	}
}

func (f *filler) value(n *node, v reflect.Value) {
	switch n.kind {
	case kindString:
		v.SetString(f.text(n.shape))
	case kindBoolean:
		v.SetBool(true)
	case kindInteger, kindLong:
		v.SetInt(int64(f.number(n.shape)))
	case kindDouble:
		v.SetFloat(f.number(n.shape))
	case kindBlob:
		v.SetBytes([]byte(`{"a":"é"}`))
	case kindStream:
		v.Set(reflect.ValueOf(bytes.NewReader([]byte(`{"a":"é"}`))))
	case kindTimestamp:
		v.Set(reflect.ValueOf(time.Date(2024, 2, 29, 12, 13, 14, 0, time.UTC)))
	case kindList:
		size := max(1, int(f.min(n.shape)))
		if n.shape.Max == nil || *n.shape.Max >= 2 {
			size = max(size, 2)
		}
		v.Set(reflect.MakeSlice(n.typ, size, size))
		for i := range size {
			f.value(n.elem, v.Index(i))
		}
	case kindMap:
		if f.min(n.shape) > 1 {
			return // clients write such a map's entries in any order, and the golden files have one
		}
		v.Set(reflect.MakeMap(n.typ))
		key, elem := reflect.New(n.typ.Key()).Elem(), reflect.New(n.typ.Elem()).Elem()
		f.value(n.key, key)
		f.value(n.elem, elem)
		v.SetMapIndex(key, elem)
	case kindStructure:
		f.structure(n, v)
	case kindUnion:
		last := &n.fields[len(n.fields)-1] // a first may have no members, which the query protocol cannot show
		place, _ := n.place(last, v)
		f.value(last.node, place)
	}
}

func (f *filler) min(s *shape) float64 {
	if s.Min == nil {
		return 0
	}
	return *s.Min
}

func (f *filler) number(s *shape) float64 {
	switch {
	case s.Max != nil:
		return *s.Max
	case s.Min != nil:
		return *s.Min + 1
	}
	return 7
}

// samples are texts of the forms that the models ask for. The first that satisfies a shape is taken, padded where it may be.
var samples = []string{
	"a <b> & \"c\" é/:+%$ d",
	"a/b:c",
	"my-name_1",
	"abc",
	"a",
	"12",
	"123456",
	"123456789012",
	"0123456789abcdef",
	"arn:aws:iam::123456789012:role/service/my-role",
	"arn:aws:lambda:eu-west-1:123456789012:function:my-name:$LATEST",
	"arn:aws:lambda:eu-west-1:123456789012:function:my-name",
	"arn:aws:lambda:eu-west-1:123456789012:layer:my-layer:3",
	"arn:aws:lambda:eu-west-1:123456789012:layer:my-layer",
	"arn:aws:lambda:eu-west-1:123456789012:code-signing-config:csc-0123456789abcdef0",
	"arn:aws:lambda:eu-west-1::runtime:0123456789",
	"arn:aws:lambda:eu-west-1:123456789012:event-source-mapping:01234567-0123-0123-0123-0123456789ab",
	"arn:aws:lambda:eu-west-1:123456789012:function:my-name:1/durable-execution/my-run/0123456789ab",
	"arn:aws:lambda:eu-west-1:123456789012:capacity-provider:my-name",
	"arn:aws:elasticfilesystem:eu-west-1:123456789012:access-point/fsap-0123456789abcdef0",
	"arn:aws:sqs:eu-west-1:123456789012:my-queue",
	"arn:aws:kms:eu-west-1:123456789012:key/01234567-0123-0123-0123-0123456789ab",
	"arn:aws:scheduler:eu-west-1:123456789012:schedule/my-group/my-name",
	"arn:aws:scheduler:eu-west-1:123456789012:schedule-group/my-group",
	"my-endpoint.abc",
	"$.detail",
	"X-Name",
	"csc-0123456789abcdef0",
	"arn:aws:application-autoscaling:eu-west-1:123456789012:scalable-target/0123456789abcdef",
	"p99.9",
	"v1",
	"ASIAEXAMPLE000000000",
	"eu-west-1",
	"/mnt/data",
	"/path/",
	"/",
	"lambda:GetLayerVersion",
	"lambda:InvokeFunction",
	"MyException",
	"o-0123456789",
	"host.example:9092",
	"ec2.amazonaws.com",
	"YWJj",
	"*",
}

func (f *filler) text(s *shape) string {
	if len(s.Enum) > 0 {
		return s.Enum[f.rand.IntN(len(s.Enum))]
	}
	for _, text := range samples {
		n := &node{shape: s, kind: kindString}
		for size := len(text); size < int(f.min(s)); size = len(text) {
			text += strings.Repeat(text[size-1:], int(f.min(s))-size)
		}
		if len(s.broken(n, reflect.ValueOf(text))) == 0 {
			return text
		}
	}
	panic(fmt.Sprintf("no sample satisfies the pattern %s of %v", s.Pattern, s))
}

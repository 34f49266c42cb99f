package queues

import (
	"bytes"
	"reflect"
	"testing"
)

// TestMD5OfSQSAttributes has digests that SQS gave.
func TestMD5OfSQSAttributes(t *testing.T) {
	text := func(s string) SQSAttribute { return SQSAttribute{Type: "String", String: s} }
	for want, attributes := range map[string]map[string]SQSAttribute{
		"":                                 nil,
		"4c360f3fdafd970e05fae2f149d997f5": {"Hello": text("There"), "General": text("Kenobi"), "Help.Me": text("Me")},
		"fca026605781cb4126a1e9044df24232": {"Hello": text("There"), "General": text("Kenobi")},
		"a311262e065454b75da111d535b8dacd": {"Hello": text("There")},
		"ae7155c6026991b6d54b11589678bf9c": {"Foo": text("Bar")},
		"8cbe4db156db8a94db8b801b7addb984": {"attr1": {Type: "Binary", Binary: []byte("traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01")}},
	} {
		if got := (SQSMeta{Attributes: attributes}).MD5OfAttributes(); got != want {
			t.Errorf("%s of %v, SQS gave %s", got, attributes, want)
		}
		if got := (SQSMeta{System: attributes}).MD5OfSystem(); got != want {
			t.Errorf("%s of %v as system attributes", got, attributes)
		}
	}
}

func TestSQSMetaOfNothing(t *testing.T) {
	if m, err := ParseSQSMeta(nil); err != nil || !reflect.DeepEqual(m, SQSMeta{}) {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := ParseSQSMeta([]byte("{")); err == nil {
		t.Error("half an object was read")
	}
}

func FuzzParseSQSMeta(f *testing.F) {
	f.Add(SQSMeta{
		Attributes: map[string]SQSAttribute{"n": {Type: "Number.int", String: "1"}, "b": {Type: "Binary", Binary: []byte{0, 255}}},
		System:     map[string]SQSAttribute{"AWSTraceHeader": {Type: "String", String: "Root=1"}}, Sender: "123456789012",
	}.Encode())
	f.Add([]byte(`{"attributes": {"a": null}}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, meta []byte) {
		m, err := ParseSQSMeta(meta)
		if err != nil {
			return
		}
		m.MD5OfAttributes()
		m.MD5OfSystem()
		again, err := ParseSQSMeta(m.Encode())
		if err != nil || !bytes.Equal(again.Encode(), m.Encode()) {
			t.Errorf("%v became %v: %v", m, again, err)
		}
	})
}

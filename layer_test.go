package thaw

import "testing"

func TestParseLayerRef(t *testing.T) {
	const arn = "arn:aws:lambda:us-east-1:123456789012:layer:deps"
	for s, want := range map[string]LayerRef{
		"deps":     {Name: "deps"},
		"deps:7":   {Name: "deps", Number: 7},
		arn:        {Account: "123456789012", Region: "us-east-1", Name: "deps"},
		arn + ":7": {Account: "123456789012", Region: "us-east-1", Name: "deps", Number: 7},
	} {
		if got, ok := ParseLayerRef(s); !ok || got != want {
			t.Errorf("%s: %+v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "a b", "a/b", arn + ":", arn + ":x", arn + ":7:7", "arn:aws:lambda:us-east-1::layer:deps", "arn:aws:lambda:us-east-1:123456789012:function:f", "deps:1234567890123456789"} {
		if got, ok := ParseLayerRef(s); ok {
			t.Errorf("%s: %+v", s, got)
		}
	}
}

// What an account calls its layer is understood as that layer.
func FuzzParseLayerRef(f *testing.F) {
	f.Add("deps")
	f.Add("arn:aws:lambda:us-east-1:123456789012:layer:deps:7")
	f.Fuzz(func(t *testing.T, s string) {
		ref, ok := ParseLayerRef(s)
		if !ok {
			return
		}
		arn := Account{ID: "123456789012", Region: "us-east-1"}.LayerARN(ref.Name, ref.Number)
		if again, ok := ParseLayerRef(arn); !ok || again.Name != ref.Name || again.Number != ref.Number {
			t.Errorf("%q: %+v; %s: %+v", s, ref, arn, again)
		}
	})
}

func TestCheckUnzipped(t *testing.T) {
	version := func(code int64, layers ...int64) *Version {
		v := &Version{Code: Code{Unzipped: code}}
		for _, size := range layers {
			v.Layers = append(v.Layers, Layer{Code: Code{Unzipped: size}})
		}
		return v
	}
	const half = MaxUnzipped / 2
	for _, test := range []struct {
		v   *Version
		say string
	}{
		{version(half), ""}, {version(half, half), ""}, {version(0, half, half), ""}, {version(MaxUnzipped), ""},
		{version(1, half, half), "InvalidParameterValueException: Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes."},
		{version(1, half, half, 1), "InvalidParameterValueException: Layers consume more than the available size of 262144000 bytes"},
	} {
		err := test.v.CheckUnzipped()
		if err == nil && test.say != "" || err != nil && err.Error() != test.say {
			t.Errorf("%+v: %v, want %q", test.v, err, test.say)
		}
	}
}

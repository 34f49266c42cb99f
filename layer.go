package thaw

import (
	"regexp"
	"strconv"
	"time"
)

// MaxLayers is how many layers a function may use, after the Lambda quotas page.
const MaxLayers = 5

// LayerRecords is the kind of the records that hold layers, each a LayerRecord under its name.
const LayerRecords = "layer"

// Layer is a layer version as a function version uses it: under the ARN it was named by, with the content it had, whether or
// not the layer version is still there.
type Layer struct {
	ARN  string `json:"arn"`
	Code Code   `json:"code"`
}

// LayerRecord is one layer with all its versions. It outlives them, so that no number is used twice.
type LayerRecord struct {
	Name string `json:"name"`
	// Last is the highest number that a version was ever published with.
	Last     int64          `json:"last"`
	Versions []LayerVersion `json:"versions,omitempty"` // by ascending number
}

// LayerVersion is one version of a layer. Nothing of it changes but its policy.
type LayerVersion struct {
	Number        int64     `json:"number"`
	Description   string    `json:"description,omitempty"`
	License       string    `json:"license,omitempty"`
	Created       time.Time `json:"created"`
	Code          Code      `json:"code"`
	Runtimes      []string  `json:"runtimes,omitempty"`      // CompatibleRuntimes: what listings select by, and nothing else
	Architectures []string  `json:"architectures,omitempty"` // CompatibleArchitectures, likewise
	Policy        *Policy   `json:"policy,omitempty"`
}

// LayerRef is a layer as a caller named it. Account and Region are empty for a bare name, Number is 0 where there is none.
type LayerRef struct {
	Account string
	Region  string
	Name    string
	Number  int64
}

// The forms of a layer's name in the Lambda API's model (LayerName, LayerVersionArn).
var layerPattern = regexp.MustCompile(`^(?:arn:[a-zA-Z0-9-]+:lambda:([a-zA-Z0-9-]+):(\d{12}):layer:)?([a-zA-Z0-9_-]+)(?::(\d{1,18}))?$`)

// ParseLayerRef takes a layer's name apart: a plain name, the layer's ARN, or either with a version's number. ok is false when s
// has none of these forms; its length is not judged here.
func ParseLayerRef(s string) (ref LayerRef, ok bool) {
	m := layerPattern.FindStringSubmatch(s)
	if m == nil {
		return LayerRef{}, false
	}
	number, _ := strconv.ParseInt(m[4], 10, 64) // 18 digits fit; none: 0
	return LayerRef{Region: m[1], Account: m[2], Name: m[3], Number: number}, true
}

// LayerARN is the ARN of a layer, or with a number above 0 that of its version.
func (a Account) LayerARN(name string, number int64) string {
	arn := "arn:aws:lambda:" + a.Region + ":" + a.ID + ":layer:" + name
	if number > 0 {
		arn += ":" + strconv.FormatInt(number, 10)
	}
	return arn
}

// LayerDigests are the digests of the version's layers, in their order.
func (v *Version) LayerDigests() []string {
	if len(v.Layers) == 0 {
		return nil
	}
	digests := make([]string, len(v.Layers))
	for i := range v.Layers {
		digests[i] = v.Layers[i].Code.SHA256
	}
	return digests
}

// CheckUnzipped says whether the version's code and layers are small enough together, in AWS's words. Of packages that were
// stored before their sizes were, nothing is known, and they do not count.
func (v *Version) CheckUnzipped() error {
	var layers int64
	for i := range v.Layers {
		layers += v.Layers[i].Code.Unzipped
	}
	if layers > MaxUnzipped {
		return Errorf(CodeInvalidParameterValue, "Layers consume more than the available size of %d bytes", MaxUnzipped)
	}
	if all := layers + v.Code.Unzipped; all > MaxUnzipped {
		return Errorf(CodeInvalidParameterValue, "Function code combined with layers exceeds the maximum allowed size of %d bytes. The actual size is %d bytes.", MaxUnzipped, all)
	}
	return nil
}

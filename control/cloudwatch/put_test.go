package cloudwatch

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw"
)

// TestManyMistakes: an answer does not grow with the mistakes of a request.
func TestManyMistakes(t *testing.T) {
	values := make([]float64, 100_000)
	for i := range values {
		values[i] = math.NaN()
	}
	data := make([]types.MetricDatum, maxData)
	for i := range data {
		data[i] = types.MetricDatum{MetricName: aws.String("m")}
	}
	for name, list := range map[string][]types.MetricDatum{"values": {{MetricName: aws.String("m"), Values: values}}, "data": data} {
		_, err := New(Config{Now: time.Now}).putMetricData(t.Context(), &sdk.PutMetricDataInput{Namespace: aws.String("n"), MetricData: list})
		if e, ok := errors.AsType[*thaw.Error](err); !ok || strings.Count(e.Message, "\n") != maxMistakes-1 {
			t.Errorf("%s: %.1000v", name, err)
		}
	}
}

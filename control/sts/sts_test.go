package sts

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"

	"thaw"
	"thaw/awsapi"
)

func TestGetCallerIdentity(t *testing.T) {
	s, err := awsapi.New("sts")
	if err != nil {
		t.Fatal(err)
	}
	Register(s, thaw.Account{ID: "123456789012", Region: "us-east-1"})
	server := httptest.NewServer(s)
	defer server.Close()
	client := sdk.New(sdk.Options{
		BaseEndpoint: &server.URL, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1,
	})
	out, err := client.GetCallerIdentity(t.Context(), &sdk.GetCallerIdentityInput{})
	if err != nil || *out.Account != "123456789012" || *out.Arn != "arn:aws:iam::123456789012:root" || *out.UserId != "123456789012" {
		t.Errorf("%+v %v", out, err)
	}
	if _, err = client.GetSessionToken(t.Context(), &sdk.GetSessionTokenInput{}); err == nil || !strings.Contains(err.Error(), "GetSessionToken") || !strings.Contains(err.Error(), "501") {
		t.Errorf("GetSessionToken: %v", err)
	}
}

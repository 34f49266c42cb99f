package com.amazonaws.services.lambda.runtime;

/** The Amazon Cognito identity that the caller sent. */
public interface CognitoIdentity {
    String getIdentityId();

    String getIdentityPoolId();
}

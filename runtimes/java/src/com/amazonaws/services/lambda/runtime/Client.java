package com.amazonaws.services.lambda.runtime;

/** The mobile application that sent a client context. */
public interface Client {
    String getInstallationId();

    String getAppTitle();

    String getAppVersionName();

    String getAppVersionCode();

    String getAppPackageName();
}

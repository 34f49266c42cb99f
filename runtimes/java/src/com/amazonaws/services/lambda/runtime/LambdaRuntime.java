package com.amazonaws.services.lambda.runtime;

/** Gives the logger to code that has no Context: logging libraries. */
public final class LambdaRuntime {
    private LambdaRuntime() {}

    public static LambdaLogger getLogger() {
        return thaw.java.Log.LOGGER;
    }
}

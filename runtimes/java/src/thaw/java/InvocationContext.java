package thaw.java;

import com.amazonaws.services.lambda.runtime.Client;
import com.amazonaws.services.lambda.runtime.ClientContext;
import com.amazonaws.services.lambda.runtime.CognitoIdentity;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
import java.util.LinkedHashMap;
import java.util.Map;

/** The Context that handlers get. */
final class InvocationContext implements Context {
    private final Invocation invocation;

    InvocationContext(Invocation invocation) {
        this.invocation = invocation;
    }

    @Override
    public String getAwsRequestId() {
        return invocation.requestId;
    }

    @Override
    public String getLogGroupName() {
        return System.getenv("AWS_LAMBDA_LOG_GROUP_NAME");
    }

    @Override
    public String getLogStreamName() {
        return System.getenv("AWS_LAMBDA_LOG_STREAM_NAME");
    }

    @Override
    public String getFunctionName() {
        return System.getenv("AWS_LAMBDA_FUNCTION_NAME");
    }

    @Override
    public String getFunctionVersion() {
        return System.getenv("AWS_LAMBDA_FUNCTION_VERSION");
    }

    @Override
    public String getInvokedFunctionArn() {
        return invocation.arn;
    }

    @Override
    public CognitoIdentity getIdentity() {
        Map<?, ?> identity = object(invocation.identity);
        if (identity == null) {
            return null;
        }
        return new CognitoIdentity() {
            @Override
            public String getIdentityId() {
                return text(identity, "cognitoIdentityId");
            }

            @Override
            public String getIdentityPoolId() {
                return text(identity, "cognitoIdentityPoolId");
            }
        };
    }

    @Override
    public ClientContext getClientContext() {
        Map<?, ?> context = object(invocation.clientContext);
        return context == null ? null : new SentContext(context);
    }

    @Override
    public int getRemainingTimeInMillis() {
        long left = invocation.deadline - System.currentTimeMillis();
        return (int) Math.max(0, Math.min(left, Integer.MAX_VALUE));
    }

    @Override
    public int getMemoryLimitInMB() {
        return Integer.parseInt(System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
    }

    @Override
    public LambdaLogger getLogger() {
        return Log.LOGGER;
    }

    @Override
    public String getXrayTraceId() {
        return invocation.traceId.isEmpty() ? null : invocation.traceId;
    }

    private static Map<?, ?> object(String json) {
        return json.isEmpty() ? null : (Map<?, ?>) Json.parse(json);
    }

    private static String text(Map<?, ?> object, String key) {
        Object value = object.get(key);
        return value == null ? null : value.toString();
    }

    private static final class SentContext implements ClientContext, Client {
        private final Map<?, ?> client;
        private final Map<String, String> custom;
        private final Map<String, String> environment;

        SentContext(Map<?, ?> context) {
            client = (Map<?, ?>) context.get("client");
            custom = texts(context.get("custom"));
            environment = texts(context.get("env"));
        }

        private static Map<String, String> texts(Object object) {
            if (object == null) {
                return null;
            }
            Map<String, String> texts = new LinkedHashMap<>();
            for (Object key : ((Map<?, ?>) object).keySet()) {
                texts.put((String) key, text((Map<?, ?>) object, (String) key));
            }
            return texts;
        }

        @Override
        public Client getClient() {
            return client == null ? null : this;
        }

        @Override
        public Map<String, String> getCustom() {
            return custom;
        }

        @Override
        public Map<String, String> getEnvironment() {
            return environment;
        }

        @Override
        public String getInstallationId() {
            return text(client, "installation_id");
        }

        @Override
        public String getAppTitle() {
            return text(client, "app_title");
        }

        @Override
        public String getAppVersionName() {
            return text(client, "app_version_name");
        }

        @Override
        public String getAppVersionCode() {
            return text(client, "app_version_code");
        }

        @Override
        public String getAppPackageName() {
            return text(client, "app_package_name");
        }
    }
}

"""Every attribute name that Flux writes, in one place.

Standard names come from OpenTelemetry's semantic conventions (1.3x, stable where a stable one exists);
`flux.*` exists only where the standard has none.
"""

from typing import Final

# HTTP and URL
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"
URL_PATH: Final = "url.path"
URL_QUERY: Final = "url.query"
URL_SCHEME: Final = "url.scheme"
URL_FULL: Final = "url.full"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
USER_AGENT_ORIGINAL: Final = "user_agent.original"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"

# Functions
FAAS_NAME: Final = "faas.name"
FAAS_TRIGGER: Final = "faas.trigger"
FAAS_INVOCATION_ID: Final = "faas.invocation_id"
FAAS_VERSION: Final = "faas.version"

# Database
DB_SYSTEM_NAME: Final = "db.system.name"
DB_NAMESPACE: Final = "db.namespace"
DB_QUERY_TEXT: Final = "db.query.text"
DB_OPERATION_NAME: Final = "db.operation.name"
DB_COLLECTION_NAME: Final = "db.collection.name"
DB_RESPONSE_RETURNED_ROWS: Final = "db.response.returned_rows"
DB_RESPONSE_STATUS_CODE: Final = "db.response.status_code"

# Messaging (the queue)
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"

# Errors and code
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
CODE_FILE_PATH: Final = "code.file.path"
CODE_LINE_NUMBER: Final = "code.line.number"
CODE_COLUMN_NUMBER: Final = "code.column.number"

# Resource
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"

# Flux's own, where the standard has no name
FLUX_REQUEST_ID: Final = "flux.request_id"
FLUX_DEPLOYMENT: Final = "flux.deployment"
FLUX_CALL: Final = "flux.call"  # the host call's number (seq) in its execution
FLUX_CLIENT_REQUEST_ID: Final = "flux.client_request_id"
FLUX_COUNT: Final = "flux.count"  # requests that were rejected together
FLUX_REPLAY_OF: Final = "flux.replay_of"  # the execution that a replay repeats
FLUX_JOB_ATTEMPT: Final = "flux.job.attempt"
FLUX_TRANSACTION_OUTCOME: Final = "flux.transaction.outcome"

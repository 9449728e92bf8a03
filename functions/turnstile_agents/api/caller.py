"""Names the caller of a request, as API Gateway has authenticated it."""

from aws_lambda_powertools.utilities.data_classes.api_gateway_proxy_event import RequestContextV2

from turnstile_agents.api.problems import HttpRefusal
from turnstile_agents.record import BY_LIMIT


def caller(context: RequestContextV2) -> str:
    """Read the caller's name out of a request's context: the IAM principal's ARN, or the subject of the token.

    Raises HttpRefusal if there is no name: each change of an agent is recorded under its caller's name.
    """
    subject = context.authorizer.jwt_claim.get("sub", "")
    name = context.authorizer.iam.user_arn or (subject if isinstance(subject, str) else "")
    if not name:
        raise HttpRefusal(403, "CallerUnknown", "The request names no caller; use a token that has a subject (`sub`)")
    if len(name) > BY_LIMIT:
        raise HttpRefusal(
            403, "CallerUnknown", f"The caller's name has {len(name)} characters; the record holds at most {BY_LIMIT}"
        )
    return name

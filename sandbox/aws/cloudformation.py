"""CloudFormation, as much as it takes to tell which stack owns a role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moto.core.responses import ActionResult

from sandbox.aws.front import AwsError, Front

if TYPE_CHECKING:
    from sandbox.aws.local import LocalAws


class CloudFormation(Front):
    signing_name = "cloudformation"
    failed = ("InternalFailure", "The request processing has failed because of an unknown error.")

    def __init__(self, aws: LocalAws) -> None:
        super().__init__(aws, service_name="cloudformation")

    def describe_stack_resources(self) -> ActionResult:
        """Return the stack's role by its physical id, which for a role is its name; stacks are Regional.

        Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResources.html
        """
        wanted = self._get_param("PhysicalResourceId")
        if not wanted:
            raise AwsError("ValidationError", "The local AWS finds stacks by PhysicalResourceId only.")
        for arn, stack in self.state.stacks.items():
            role = self.state.role(arn)
            mine = role and role.name == wanted and role.account_id == self.current_account
            if mine and stack.region == self.region:
                stack_id = f"arn:aws:cloudformation:{self.region}:{self.current_account}:stack/{stack.name}/{role.id}"
                return ActionResult(
                    {
                        "StackResources": [
                            {
                                "StackName": stack.name,
                                "StackId": stack_id,
                                "LogicalResourceId": stack.logical_id,
                                "PhysicalResourceId": role.name,
                                "ResourceType": "AWS::IAM::Role",
                                "Timestamp": stack.at,
                                "ResourceStatus": "CREATE_COMPLETE",
                            }
                        ]
                    }
                )
        raise AwsError("ValidationError", f"Stack for {wanted} does not exist")

"""Prefixes of actions that policies may name.

Policies of identities are often shared with AWS, so that they name services that this server does not have: these are
taken and grant nothing here. A prefix that is not in the list is most likely misspelt, and refused, because a Deny that
names it would deny nothing.
"""

from typing import Final

# What a vector bucket's policy can speak of: its own operations, and our extensions.
SERVICES_OF_BUCKETS: Final = frozenset({"s3vectors", "whimbrel"})

_OTHERS: Final = (
    "access-analyzer account acm acm-pca airflow amplify aoss apigateway appconfig application-autoscaling appsync "
    "athena autoscaling aws-marketplace backup batch bedrock bedrock-agentcore budgets cassandra ce cloudformation "
    "cloudfront cloudshell cloudtrail cloudwatch codeartifact codebuild codecommit codedeploy codepipeline "
    "cognito-identity cognito-idp cognito-sync comprehend config connect dax directconnect dms dynamodb ebs ec2 "
    "ec2messages ecr ecr-public ecs eks elasticache elasticbeanstalk elasticfilesystem elasticloadbalancing "
    "elasticmapreduce emr-serverless es events execute-api firehose fsx glacier glue greengrass guardduty health iam "
    "imagebuilder inspector inspector2 iot kafka kafka-cluster kendra kinesis kinesisanalytics kms lakeformation "
    "lambda lex license-manager lightsail logs macie2 mq network-firewall neptune-db opensearch organizations "
    "pipes polly pricing qbusiness quicksight ram rds rds-data rds-db redshift redshift-data redshift-serverless "
    "rekognition resource-explorer-2 resource-groups route53 route53domains route53resolver s3 s3-object-lambda "
    "s3-outposts s3express s3tables sagemaker savingsplans scheduler secretsmanager securityhub securitylake "
    "servicecatalog servicediscovery servicequotas ses shield signer sns sqs ssm ssmmessages sso sso-directory states "
    "storagegateway sts support swf sync-states synthetics tag textract timestream transcribe transfer translate "
    "trustedadvisor verifiedpermissions vpc-lattice waf wafv2 wellarchitected workspaces xray"
)
SERVICES: Final = SERVICES_OF_BUCKETS | frozenset(_OTHERS.split())

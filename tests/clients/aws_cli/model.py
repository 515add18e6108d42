"""Prints the AWS CLI's version and what it can ask of S3 Vectors: name of the command to name of the operation."""

import json
import sys

import awscli
from awscli.botocore import xform_name
from awscli.botocore.session import get_session

names = get_session().get_service_model("s3vectors").operation_names
commands = {xform_name(name, "-"): name for name in names}
json.dump({"version": awscli.__version__, "commands": commands}, sys.stdout)

"""AWS's query protocol, which IAM and STS speak: a form goes in, XML comes out, errors included."""

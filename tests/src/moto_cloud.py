"""The lab's AWS: moto with signature checking on, one Auto Scaling group, and a wire to the lab.

Arguments: address, VPC range, group name. On standard output one JSON object a line tells what happened (ready, request,
launched, ended, key); on standard input one JSON object a line asks for something, answered by an `answer` line. The end
of standard input ends the cloud, so it never outlives its lab.

An instance stays `pending` until the lab says it has booted: moto itself would call it running at once.
"""

import io
import json
import os
import pathlib
import sys
import threading
import time
import urllib.parse

os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_EC2_METADATA_DISABLED="true")
os.environ.pop("AWS_PROFILE", None)
for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
    os.environ.pop(name, None)

import boto3
from botocore.config import Config
from moto import settings
from moto.autoscaling.models import autoscaling_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import JsonRESTError, ServiceException
from moto.ec2 import ec2_backends
from moto.ec2instanceconnect.responses import Ec2InstanceConnectResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sts.responses import TokenResponse
from werkzeug.serving import WSGIRequestHandler, make_server

REGION = "eu-west-1"
write_lock = threading.Lock()
watch_lock = threading.Lock()
seen = {}
ended = set()


def tell(event, **fields):
    with write_lock:
        print(json.dumps({"event": event, "at_ms": int(time.time() * 1000), **fields}), flush=True)


def instances():
    backend = ec2_backends[DEFAULT_ACCOUNT_ID][REGION]
    return [i for reservation in list(backend.reservations.values()) for i in list(reservation.instances)]


def watch():
    """Tells of launches and ends; called after every request, so that nobody sees an instance before its boot began."""
    with watch_lock:
        for instance in instances():
            over = instance._state.name in ("terminated", "shutting-down")
            if instance.id not in seen:
                seen[instance.id] = instance
                if not over:
                    instance._state.name, instance._state.code = "pending", 0
                tell("launched", id=instance.id, address=instance.private_ip)
            if over and instance.id not in ended:
                ended.add(instance.id)
                tell("ended", id=instance.id, address=instance.private_ip)


def send_ssh_public_key(self):
    """EC2 Instance Connect; moto's own accepts anything for any instance. Errors: API reference of SendSSHPublicKey."""
    asked = json.loads(self.body)
    instance = seen.get(asked.get("InstanceId"))
    if instance is None or instance.id in ended:
        raise JsonRESTError("EC2InstanceNotFoundException", "The specified instance was not found.")
    if instance._state.name != "running":
        raise JsonRESTError("EC2InstanceStateInvalidException",
                            "Unable to connect because the instance is not in a valid state (running).")
    if not asked.get("SSHPublicKey", "").startswith("ssh-"):
        raise JsonRESTError("InvalidArgsException", "The key is not a public key in OpenSSH form.")
    tell("key", id=instance.id, user=asked["InstanceOSUser"], key=asked["SSHPublicKey"])
    return json.dumps({"RequestId": "lab", "Success": True})


Ec2InstanceConnectResponse.send_ssh_public_key = send_ssh_public_key


# What a workload's own identity is proved by; moto itself believes every token.
IDENTITY_TOKEN = "the-managers-identity"


def authenticate(self, resource="*"):
    """AssumeRoleWithWebIdentity is not signed: its token is the proof. Errors: API reference of that action."""
    if "AssumeRoleWithWebIdentity" not in self.querystring.get("Action", []):
        return ActionAuthenticatorMixin._authenticate_and_authorize_normal_action(self, resource)
    if self.querystring["WebIdentityToken"] != [IDENTITY_TOKEN]:
        raise ServiceException("InvalidIdentityToken", "No OpenIDConnect provider found in your account for this token")


TokenResponse._authenticate_and_authorize_normal_action = authenticate


def recorded(app):
    """Wraps the service: one `request` line a call, with its action, parameters and status; never the signature."""

    def serve(environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        parameters = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"))) if not target else {}
        query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
        action = target.rpartition(".")[2] or parameters.pop("Action", None) or query.get("Action") or environ["PATH_INFO"]
        parameters.pop("Version", None)
        credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0]
        status = []

        def respond(line, headers, exc_info=None):
            status.append(int(line.split()[0]))
            return start_response(line, headers, exc_info)

        try:
            return app(environ, respond)
        finally:
            watch()
            if credential != administrator.get("AccessKeyId") and ready.is_set():
                tell("request", action=action, parameters=parameters, access_key=credential,
                     status=status[0] if status else 0, agent=environ.get("HTTP_USER_AGENT", ""))

    return serve


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


administrator = {}
ready = threading.Event()


def policy(actions):
    # moto denies statements scoped to an ARN for these actions.
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]})


def allow(iam, name, actions):
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy(actions))


def user(iam, name, actions):
    iam.create_user(UserName=name)
    allow(iam, name, actions)
    return iam.create_access_key(UserName=name)["AccessKey"]


# What the AWS plugin's own policy allows, and nothing else: whatever the manager does in a story, that policy suffices.
POLICY = pathlib.Path(__file__).parents[2] / "plugins/aws/iam-policy.json"
RUNNER_ACTIONS = [action for statement in json.loads(POLICY.read_text())["Statement"] for action in statement["Action"]]


def main():
    address, vpc_range, group = sys.argv[1:4]
    server = make_server(address, 0, recorded(DomainDispatcherApplication(create_backend_app)), threaded=True,
                         request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://{address}:{server.server_address[1]}"

    def client(service, **keys):
        return boto3.client(service, endpoint_url=endpoint, region_name=REGION,
                            config=Config(retries={"max_attempts": 0}), **keys)

    ec2, iam = client("ec2"), client("iam")
    vpc = ec2.create_vpc(CidrBlock=vpc_range)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=vpc_range, AvailabilityZone=REGION + "a")["Subnet"]["SubnetId"]
    images = ec2.describe_images(Owners=["amazon"])["Images"]
    image = next(i["ImageId"] for i in images if i.get("Platform") != "windows")
    ec2.create_launch_template(LaunchTemplateName="lab-instance",
                               LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"})
    scaling = client("autoscaling")
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=group, MinSize=0, MaxSize=100, DesiredCapacity=0, VPCZoneIdentifier=subnet,
        LaunchTemplate={"LaunchTemplateName": "lab-instance", "Version": "$Latest"},
        NewInstancesProtectedFromScaleIn=True)
    scaling.suspend_processes(AutoScalingGroupName=group, ScalingProcesses=["AZRebalance"])
    runner = user(iam, "runner", RUNNER_ACTIONS)
    administrator.update(user(iam, "administrator", ["*"]))
    base = user(iam, "base", ["sts:AssumeRole"])
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": [
        f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:user/{name}" for name in ("base", "administrator")]}}]}
    role = iam.create_role(RoleName="builders", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="builders", PolicyName="builders", PolicyDocument=policy(RUNNER_ACTIONS))

    # From here on every request must be signed by a known key and be allowed by its policy.
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    ActionAuthenticatorMixin.request_count = 0
    ready.set()
    keys = {"aws_access_key_id": administrator["AccessKeyId"], "aws_secret_access_key": administrator["SecretAccessKey"]}
    ec2, scaling, iam = client("ec2", **keys), client("autoscaling", **keys), client("iam", **keys)
    sts = client("sts", **keys)
    tell("ready", endpoint=endpoint, region=REGION, access_key=runner["AccessKeyId"],
         secret_key=runner["SecretAccessKey"], role=role, base_key=base["AccessKeyId"],
         base_secret_key=base["SecretAccessKey"], identity_token=IDENTITY_TOKEN)

    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = None
            if "booted" in asked:
                instance = seen[asked["booted"]]
                if instance.id not in ended:
                    instance._state.name, instance._state.code = "running", 16
            elif "take_role" in asked:
                answer = sts.assume_role(RoleArn=role, RoleSessionName=asked["take_role"])["Credentials"]
                answer["Expiration"] = answer["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ")
            elif "allow" in asked:
                allow(iam, "runner", asked["allow"])
            elif "pretend" in asked:
                for name, value in asked["pretend"].items():
                    setattr(seen[asked["of"]], name, value)
            elif "lack" in asked:
                # A place that stays empty; moto fills every one at once, and knows no failed launch.
                autoscaling_backends[DEFAULT_ACCOUNT_ID][REGION].autoscaling_groups[group].desired_capacity += asked["lack"]
            elif "terminate" in asked:
                ec2.terminate_instances(InstanceIds=[asked["terminate"]])
            elif "desire" in asked:
                scaling.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=asked["desire"])
            elif "most" in asked:
                scaling.update_auto_scaling_group(AutoScalingGroupName=group, MaxSize=asked["most"])
            elif "group" in asked:
                described = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]
                answer = {"desired": described["DesiredCapacity"],
                          "instances": [i["InstanceId"] for i in described["Instances"]]}
            tell("answer", id=asked["id"], ok=True, answer=answer)
        except Exception as problem:  # noqa: BLE001 - whatever went wrong is the lab's answer
            tell("answer", id=asked["id"], ok=False, answer=str(problem))
    os._exit(0)


main()

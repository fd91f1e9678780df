"""The daemon's binary deploys against moto, an emulator of AWS that isn't ours.

What moto answers, and so is tried against a peer: the inventory of the Auto Scaling group, standby with the arithmetic
of desired capacity, suspension of processes, tags, MinSize, target groups and their attributes, target health,
registration and deregistration of a target group that no Auto Scaling group has, CloudWatch Logs. What it can't, and is
done by front.py: commands, the agents' inventory, instance refreshes, the targets' leaving and coming back with standby.
Not covered by any peer: drains that take time, targets that become unhealthy, lifecycle hooks, throttling: see the
simulated cloud.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import front
import peer

CONFIG = """
[server]
listen = "127.0.0.1:0"
data = "{data}"
poll = "200ms"
[aws]
region = "eu-central-1"
endpoint = "{aws}"
[github]
api = "{github}"
poll_branches = "0s"
[applications.peer]
repository = "{repository}"
[applications.peer.groups.moto]
auto_scaling_groups = ["web"]
target_groups = ["{extra}"]
[applications.peer.groups.moto.policy]
batch = "2"
min_in_service = "1"
"""

APPSPEC = """version: 0.0
os: linux
hooks:
  BeforeInstall:
    - location: hook
  ApplicationStart:
    - location: hook
  ValidateService:
    - location: hook
"""

HOOK = '#!/bin/sh\necho "$LIFECYCLE_EVENT on $AWS_SSM_INSTANCE_ID, grün"\necho "$LIFECYCLE_EVENT" >>"$DROVER_ROOT/trace"\n'


class Moto(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="drover-peer-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def moto(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with open(os.path.join(self.directory, "moto.log"), "w") as log:
            program = os.path.join(os.path.dirname(sys.executable), "moto_server")
            child = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def stop():
            child.send_signal(signal.SIGINT)
            child.wait(20)

        self.addCleanup(stop)
        url = "http://127.0.0.1:%d" % port

        def answers():
            try:
                return urllib.request.urlopen(url + "/moto-api/data.json", timeout=5)
            except OSError:
                return None

        peer.wait_for(answers, "moto").close()
        return url

    def world(self, aws):
        """A load balancer with two target groups, and an Auto Scaling group that owns the first; the second's ARN."""
        ec2, elb, scaling = aws["ec2"], aws["elbv2"], aws["autoscaling"]
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.%d.0/24" % n, AvailabilityZone="eu-central-1" + zone)["Subnet"]["SubnetId"]
                   for n, zone in enumerate("ab")]
        balancer = elb.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
        arns = []
        for port, name in ((80, "web"), (8080, "extra")):
            made = elb.create_target_group(Name=name, Protocol="HTTP", Port=port, VpcId=vpc, HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2)
            arns.append(made["TargetGroups"][0]["TargetGroupArn"])
            elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=[{"Type": "forward", "TargetGroupArn": arns[-1]}])
        scaling.create_launch_configuration(LaunchConfigurationName="web", ImageId="ami-12c6146b", InstanceType="t3.micro")
        scaling.create_auto_scaling_group(AutoScalingGroupName="web", LaunchConfigurationName="web", MinSize=3, MaxSize=5, DesiredCapacity=3,
                                          VPCZoneIdentifier=",".join(subnets), TargetGroupARNs=arns[:1])
        return arns

    def group(self, aws):
        return aws["autoscaling"].describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"][0]

    def targets(self, aws, arn):
        found = aws["elbv2"].describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        return sorted((target["Target"]["Id"], target["Target"]["Port"]) for target in found)

    def test_a_rollout(self):
        sha = peer.repository(os.path.join(self.directory, "repository"), {"appspec.yml": APPSPEC, "hook": HOOK})
        github = peer.Process(self.directory, "github", [
            "sim", "--listen", "127.0.0.1:0", "--data", os.path.join(self.directory, "cloud"),
            "--repo", "%s=%s" % (peer.REPOSITORY, os.path.join(self.directory, "repository"))])
        self.addCleanup(github.stop)
        moto = self.moto()
        aws = peer.clients(moto)
        web, extra = self.world(aws)
        instances = sorted(instance["InstanceId"] for instance in self.group(aws)["Instances"])
        aws["elbv2"].register_targets(TargetGroupArn=extra, Targets=[{"Id": i, "Port": 8081} for i in instances])
        before = self.targets(aws, web), self.targets(aws, extra)
        self.assertEqual([len(targets) for targets in before], [3, 3])

        agent = front.Agent(os.path.join(self.directory, "hosts"), aws, instances)
        between = front.Front(moto, agent, aws)
        self.addCleanup(between.stop)
        config = os.path.join(self.directory, "drover.toml")
        with open(config, "w") as file:
            file.write(CONFIG.format(data=os.path.join(self.directory, "daemon"), aws=between.url, github=github.ready["url"],
                                     repository=peer.REPOSITORY, extra=extra))
        daemon = peer.Process(self.directory, "daemon", ["serve", "--config", config], AWS_ACCESS_KEY_ID="peer", AWS_SECRET_ACCESS_KEY="peer",
                              AWS_EC2_METADATA_DISABLED="true", GITHUB_TOKEN=github.ready["github_token"])
        self.addCleanup(daemon.stop)
        with open(daemon.ready["token_file"]) as file:
            token = file.read().strip()

        done = subprocess.run([peer.DROVER, "deploy", sha, "--group", "peer/moto", "--follow"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=dict(os.environ, DROVER_URL=daemon.ready["url"], DROVER_TOKEN=token), timeout=180)
        said = done.stdout.decode()
        self.assertEqual(done.returncode, 0, said + daemon.said())

        # The hooks ran once each, and what they wrote came by moto's CloudWatch Logs.
        for instance in instances:
            with open(os.path.join(agent.root(instance), "trace")) as trace:
                self.assertEqual(trace.read().split(), ["BeforeInstall", "ApplicationStart", "ValidateService"], instance)
            self.assertEqual(said.count("ApplicationStart on %s, grün" % instance), 1, said)
        # Everything is as it was.
        group = self.group(aws)
        self.assertEqual([i["LifecycleState"] for i in group["Instances"]], ["InService"] * 3)
        self.assertEqual((group["DesiredCapacity"], group["MinSize"], group.get("SuspendedProcesses", [])), (3, 3, []))
        self.assertNotIn("drover:restore", [tag["Key"] for tag in group.get("Tags", [])])
        self.assertEqual((self.targets(aws, web), self.targets(aws, extra)), before)
        wanted = {"DescribeAutoScalingGroups", "DescribeTargetGroups", "DescribeTargetGroupAttributes", "DescribeTargetHealth",
                  "EnterStandby", "ExitStandby", "SuspendProcesses", "ResumeProcesses", "UpdateAutoScalingGroup", "CreateOrUpdateTags",
                  "DeleteTags", "RegisterTargets", "DeregisterTargets", "CreateLogGroup", "GetLogEvents"}
        self.assertEqual(wanted - set(between.passed), set())
        print("moto answered %d calls of the daemon's (%s); done before it: %s"
              % (sum(between.passed.values()), ", ".join(sorted(between.passed)), ", ".join(sorted(between.done_here))))


if __name__ == "__main__":
    unittest.main()

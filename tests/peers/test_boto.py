"""boto3 drives the simulated cloud through every call that drover makes, and a few that it only leads to; every answer
is held against botocore's copy of the service models: names, types, required members, enumerations.

It covers the wire: what an SDK that isn't Rust's makes of the simulator. Not covered: whether AWS would behave as the
simulator does behind the answers (no peer knows drains, Pending:Wait or agents: that rests on AWS's documents).
"""

import json
import os
import tempfile
import time
import unittest
import urllib.request

import botocore.exceptions

import peer
import shape

USER_DATA = "#!/bin/sh\nmkdir -p /var/www && cd /var/www && echo ok >health && (setsid busybox httpd -p 80 >/dev/null 2>&1 </dev/null &)\n"


class Boto(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="drover-peer-")
        name = cls.directory.name
        peer.repository(os.path.join(name, "repository"), {"appspec.yml": "version: 0.0\nos: linux\n"})
        arguments = ["sim", "--listen", "127.0.0.1:0", "--data", os.path.join(name, "cloud"), "--time-scale", "10",
                     "--repo", "%s=%s" % (peer.REPOSITORY, os.path.join(name, "repository"))]
        cls.sim = peer.Process(name, "sim", arguments)
        ready = cls.sim.ready
        cls.aws = peer.clients(ready["url"], ready["access_key_id"], ready["secret_access_key"])
        cls.held = {name: shape.check(client) for name, client in cls.aws.items()}
        made = cls.control("world", {
            "target_groups": [
                {"name": "web", "port": 80, "listener_port": 0, "deregistration_delay": 10, "slow_start": 0,
                 "health_check": {"path": "/health", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2}},
                {"name": "extra", "port": 80, "listener_port": 0, "deregistration_delay": 10, "slow_start": 0,
                 "health_check": {"path": "/health", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2}}],
            "groups": [{"name": "web", "min": 1, "max": 4, "desired": 2, "zones": ["eu-central-1a", "eu-central-1b"],
                        "target_groups": ["web"], "health_check_type": "EC2", "user_data": USER_DATA, "tags": {"team": "web"}}]})
        by_name = {group["name"]: group["arn"] for group in made["target_groups"]}
        cls.web, cls.extra = by_name["web"], by_name["extra"]

    @classmethod
    def tearDownClass(cls):
        cls.sim.stop()
        cls.directory.cleanup()

    @classmethod
    def control(cls, path, body):
        request = urllib.request.Request("%s/_sim/%s" % (cls.sim.ready["url"], path), json.dumps(body).encode(),
                                         {"Authorization": "Bearer " + cls.sim.ready["token"]})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def group(self):
        return self.aws["autoscaling"].describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"][0]

    def health(self, target_group):
        found = self.aws["elbv2"].describe_target_health(TargetGroupArn=target_group)["TargetHealthDescriptions"]
        return {target["Target"]["Id"]: target["TargetHealth"]["State"] for target in found}

    def refused(self, code, call, **parameters):
        with self.assertRaises(botocore.exceptions.ClientError) as caught:
            call(**parameters)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def test_a_rollout_by_hand(self):
        scaling, elb, ssm, logs = (self.aws[name] for name in ("autoscaling", "elbv2", "ssm", "logs"))
        peer.wait_for(lambda: list(self.health(self.web).values()) == ["healthy"] * 2, "a healthy fleet", 120)
        instances = [instance["InstanceId"] for instance in self.group()["Instances"]]
        one = instances[0]

        self.assertEqual(elb.describe_target_groups(TargetGroupArns=[self.web])["TargetGroups"][0]["TargetGroupName"], "web")
        attributes = elb.describe_target_group_attributes(TargetGroupArn=self.web)["Attributes"]
        self.assertIn({"Key": "deregistration_delay.timeout_seconds", "Value": "10"}, attributes)
        self.assertEqual(scaling.describe_instance_refreshes(AutoScalingGroupName="web")["InstanceRefreshes"], [])

        def online():
            filters = [{"Key": "InstanceIds", "Values": instances}]
            found = ssm.describe_instance_information(Filters=filters)["InstanceInformationList"]
            return sorted(agent["InstanceId"] for agent in found if agent["PingStatus"] == "Online") == sorted(instances)

        peer.wait_for(online, "the agents")

        # Out of the way.
        scaling.create_or_update_tags(Tags=[{"ResourceId": "web", "ResourceType": "auto-scaling-group", "Key": "drover:restore",
                                             "Value": "{}", "PropagateAtLaunch": False}])
        self.assertIn("drover:restore", [tag["Key"] for tag in self.group()["Tags"]])
        scaling.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["AZRebalance"])
        self.assertEqual([process["ProcessName"] for process in self.group()["SuspendedProcesses"]], ["AZRebalance"])
        scaling.update_auto_scaling_group(AutoScalingGroupName="web", MinSize=0)
        activity = scaling.enter_standby(AutoScalingGroupName="web", InstanceIds=[one], ShouldDecrementDesiredCapacity=True)
        self.assertEqual(len(activity["Activities"]), 1)
        self.assertEqual(self.group()["DesiredCapacity"], 1)
        state = lambda: {i["InstanceId"]: i["LifecycleState"] for i in self.group()["Instances"]}[one]
        peer.wait_for(lambda: state() == "Standby", "Standby", 90)
        peer.wait_for(lambda: one not in self.health(self.web), "the drain's end", 90)

        # A command, with its output uploaded.
        logs.create_log_group(logGroupName="/peer")
        self.refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName="/peer")
        sent = ssm.send_command(DocumentName="AWS-RunShellScript", InstanceIds=[one], Comment="drover 1 run 1", TimeoutSeconds=60,
                                MaxErrors="100%", MaxConcurrency="100%",
                                Parameters={"commands": ["echo grün; exit 3"], "executionTimeout": ["60"]},
                                CloudWatchOutputConfig={"CloudWatchLogGroupName": "/peer", "CloudWatchOutputEnabled": True})["Command"]

        def listed():
            found = ssm.list_commands(Filters=[{"key": "DocumentName", "value": "AWS-RunShellScript"}])["Commands"]
            return (sent["CommandId"], "drover 1 run 1") in [(command["CommandId"], command["Comment"]) for command in found]

        peer.wait_for(listed, "the command in the list, where it comes late")

        def over():
            found = ssm.list_command_invocations(CommandId=sent["CommandId"], Details=True)["CommandInvocations"]
            return found and found[0]["Status"] not in ("Pending", "InProgress", "Delayed") and found[0]

        invocation = peer.wait_for(over, "the command's end")
        self.assertEqual((invocation["Status"], invocation["CommandPlugins"][0]["ResponseCode"]), ("Failed", 3))
        single = ssm.get_command_invocation(CommandId=sent["CommandId"], InstanceId=one)
        self.assertEqual(single["StandardOutputContent"].strip(), "grün")
        # A stream of our own: what agents upload is for their role's policy to say, and tried by drover's own tests.
        stream = "peer"
        logs.create_log_stream(logGroupName="/peer", logStreamName=stream)
        logs.put_log_events(logGroupName="/peer", logStreamName=stream,
                            logEvents=[{"timestamp": int(time.time() * 1000), "message": "grün"}])
        events = logs.get_log_events(logGroupName="/peer", logStreamName=stream, startFromHead=True)
        self.assertEqual([event["message"].strip() for event in events["events"]], ["grün"])
        again = logs.get_log_events(logGroupName="/peer", logStreamName=stream, startFromHead=True, nextToken=events["nextForwardToken"])
        self.assertEqual((again["events"], again["nextForwardToken"]), ([], events["nextForwardToken"]))
        self.refused("ResourceNotFoundException", logs.get_log_events, logGroupName="/peer", logStreamName="none")
        ssm.cancel_command(CommandId=sent["CommandId"])

        # And back.
        scaling.exit_standby(AutoScalingGroupName="web", InstanceIds=[one])
        peer.wait_for(lambda: state() == "InService" and self.health(self.web).get(one) == "healthy", "service", 90)
        scaling.update_auto_scaling_group(AutoScalingGroupName="web", MinSize=1)
        scaling.resume_processes(AutoScalingGroupName="web", ScalingProcesses=["AZRebalance"])
        scaling.delete_tags(Tags=[{"ResourceId": "web", "ResourceType": "auto-scaling-group", "Key": "drover:restore"}])
        group = self.group()
        self.assertEqual((group["SuspendedProcesses"], group["DesiredCapacity"], group["MinSize"]), ([], 2, 1))
        self.assertNotIn("drover:restore", [tag["Key"] for tag in group["Tags"]])

        # A target group that no Auto Scaling group has.
        elb.register_targets(TargetGroupArn=self.extra, Targets=[{"Id": one, "Port": 80}])
        peer.wait_for(lambda: self.health(self.extra).get(one) == "healthy", "a registered target", 90)
        elb.deregister_targets(TargetGroupArn=self.extra, Targets=[{"Id": one, "Port": 80}])
        peer.wait_for(lambda: one not in self.health(self.extra), "a deregistered target", 90)

        # Refusals have the codes that drover goes by.
        self.refused("ValidationError", scaling.enter_standby, AutoScalingGroupName="none", InstanceIds=[one],
                     ShouldDecrementDesiredCapacity=True)
        self.refused("InvalidInstanceId", ssm.send_command, DocumentName="AWS-RunShellScript", InstanceIds=["i-00000000000000000"],
                     Parameters={"commands": ["true"]})
        self.refused("TargetGroupNotFound", elb.describe_target_health, TargetGroupArn=self.web + "0")
        self.control("faults", {"kind": "throttle", "match": {"action": "DescribeAutoScalingGroups"}})
        self.refused("Throttling", self.group)

        held = sorted(set(sum(self.held.values(), [])))
        print("%d operations, every answer as botocore's models say: %s" % (len(held), ", ".join(held)))
        self.assertGreaterEqual(len(held), 20)

    def test_hooks_refreshes_and_warm_pools(self):
        scaling = self.aws["autoscaling"]
        self.control("world", {"groups": [{"name": "held", "max": 2, "desired": 1, "zones": ["eu-central-1a"],
                                           "lifecycle_hooks": [{"name": "deploy", "heartbeat_timeout": 600}]}]})
        group = lambda: scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["held"])["AutoScalingGroups"][0]
        state = lambda: group()["Instances"][0]["LifecycleState"]
        named = {"AutoScalingGroupName": "held"}

        # A hook on launches holds a new instance until it is told to continue.
        scaling.put_lifecycle_hook(LifecycleHookName="leave", LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
                                   NotificationMetadata="x", HeartbeatTimeout=30, DefaultResult="CONTINUE", **named)
        hooks = {hook["LifecycleHookName"]: hook for hook in scaling.describe_lifecycle_hooks(**named)["LifecycleHooks"]}
        self.assertEqual(sorted(hooks), ["deploy", "leave"])
        deploy = hooks["deploy"]
        self.assertEqual((deploy["LifecycleTransition"], deploy["HeartbeatTimeout"], deploy["GlobalTimeout"], deploy["DefaultResult"]),
                         ("autoscaling:EC2_INSTANCE_LAUNCHING", 600, 60000, "ABANDON"))
        scaling.delete_lifecycle_hook(LifecycleHookName="leave", **named)
        self.assertEqual(scaling.describe_lifecycle_hooks(LifecycleHookNames=["leave"], **named)["LifecycleHooks"], [])
        peer.wait_for(lambda: state() == "Pending:Wait", "the wait for the hook", 90)
        one = group()["Instances"][0]["InstanceId"]
        waiting = scaling.describe_auto_scaling_instances(InstanceIds=[one])["AutoScalingInstances"][0]
        self.assertEqual(waiting["LifecycleState"], "Pending:Wait")
        launch = scaling.describe_scaling_activities(**named)["Activities"][0]
        self.assertEqual(launch["StatusCode"], "MidLifecycleAction")
        self.refused("ValidationError", scaling.record_lifecycle_action_heartbeat, LifecycleHookName="deploy",
                     InstanceId="i-00000000000000000", **named)
        scaling.record_lifecycle_action_heartbeat(LifecycleHookName="deploy", InstanceId=one, **named)
        scaling.complete_lifecycle_action(LifecycleHookName="deploy", InstanceId=one, LifecycleActionResult="CONTINUE", **named)
        peer.wait_for(lambda: state() == "InService", "service", 90)
        for call, more in ((scaling.record_lifecycle_action_heartbeat, {}),
                           (scaling.complete_lifecycle_action, {"LifecycleActionResult": "CONTINUE"})):
            with self.assertRaises(botocore.exceptions.ClientError) as caught:
                call(LifecycleHookName="deploy", InstanceId=one, **more, **named)
            error = caught.exception.response["Error"]
            self.assertEqual((error["Code"], error["Message"]),
                             ("ValidationError", "No active Lifecycle Action found with instance ID " + one))
        self.refused("ValidationError", scaling.put_lifecycle_hook, LifecycleHookName="deploy", HeartbeatTimeout=29, **named)
        self.refused("ValidationError", scaling.put_lifecycle_hook, LifecycleHookName="new", **named)

        # A refresh is in progress until it is cancelled.
        self.refused("ActiveInstanceRefreshNotFound", scaling.cancel_instance_refresh, **named)
        started = scaling.start_instance_refresh(Strategy="Rolling", Preferences={"MinHealthyPercentage": 90, "SkipMatching": False,
                                                                                  "CheckpointPercentages": [50, 100]}, **named)
        refresh = lambda: scaling.describe_instance_refreshes(**named)["InstanceRefreshes"][0]
        self.assertEqual((refresh()["InstanceRefreshId"], refresh()["Status"], refresh()["Preferences"]["CheckpointPercentages"]),
                         (started["InstanceRefreshId"], "InProgress", [50, 100]))
        self.refused("InstanceRefreshInProgress", scaling.start_instance_refresh, **named)
        self.assertEqual(scaling.cancel_instance_refresh(**named)["InstanceRefreshId"], started["InstanceRefreshId"])
        self.assertEqual(refresh()["Status"], "Cancelled")

        # A warm pool is there, and holds nothing.
        self.assertNotIn("WarmPoolConfiguration", group())
        scaling.put_warm_pool(MinSize=0, MaxGroupPreparedCapacity=2, PoolState="Stopped", InstanceReusePolicy={"ReuseOnScaleIn": True},
                              **named)
        pool = scaling.describe_warm_pool(**named)
        self.assertEqual((pool["WarmPoolConfiguration"]["MinSize"], pool["Instances"]), (0, []))
        self.assertEqual(group()["WarmPoolConfiguration"], pool["WarmPoolConfiguration"])
        scaling.delete_warm_pool(**named)
        self.assertNotIn("WarmPoolConfiguration", scaling.describe_warm_pool(**named))
        self.refused("ValidationError", scaling.delete_warm_pool, **named)

        new = {"PutLifecycleHook", "DeleteLifecycleHook", "DescribeLifecycleHooks", "RecordLifecycleActionHeartbeat",
               "CompleteLifecycleAction", "StartInstanceRefresh", "CancelInstanceRefresh", "DescribeInstanceRefreshes",
               "PutWarmPool", "DeleteWarmPool", "DescribeWarmPool"}
        self.assertLessEqual(new, set(self.held["autoscaling"]))


if __name__ == "__main__":
    unittest.main()

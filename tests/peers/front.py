"""What stands before moto: passes on what moto knows, and does what it doesn't.

- Systems Manager: moto runs nothing and has no ListCommandInvocations, so commands are run here, each instance's script
  with the real runner in a root directory of its own (`DROVER_ROOT`); what it prints goes to moto's CloudWatch Logs once
  a second, as the agent uploads it, whole lines in one event.
- Auto Scaling's hand on the load balancer: after EnterStandby moto leaves the targets registered, after ExitStandby
  they are to come back; both is done here, by calls to moto.
- DescribeInstanceRefreshes, which moto answers with a page of HTML: no refresh is running.

Everything else reaches moto as the daemon's SDK wrote it, and moto's answer reaches the daemon as moto wrote it.
"""

import collections
import http.client
import http.server
import json
import os
import subprocess
import threading
import time
import urllib.parse
import uuid

EMPTY = ('<DescribeInstanceRefreshesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeInstanceRefreshesResult>'
         "<InstanceRefreshes/></DescribeInstanceRefreshesResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata>"
         "</DescribeInstanceRefreshesResponse>")


class Agent:
    """Systems Manager with its agents, as far as drover needs it."""

    def __init__(self, directory, aws, instances):
        self.directory, self.aws, self.instances = directory, aws, instances
        self.commands = collections.OrderedDict()
        self.threads = []

    def root(self, instance):
        return os.path.join(self.directory, instance)

    def answer(self, action, given):
        if action == "DescribeInstanceInformation":
            wanted = [value for f in given.get("Filters", []) for value in f["Values"]] or self.instances
            return {"InstanceInformationList": [{"InstanceId": i, "PingStatus": "Online"} for i in wanted if i in self.instances]}
        if action == "SendCommand":
            command = dict(given, id=str(uuid.uuid4()), states={i: {"Status": "InProgress"} for i in given["InstanceIds"]})
            self.commands[command["id"]] = command
            for instance in given["InstanceIds"]:
                thread = threading.Thread(target=self.run, args=(command, instance))
                thread.start()
                self.threads.append(thread)
            return {"Command": {"CommandId": command["id"], "Comment": given.get("Comment", ""), "Status": "Pending"}}
        if action == "ListCommands":
            return {"Commands": [{"CommandId": c["id"], "Comment": c.get("Comment", "")} for c in self.commands.values()]}
        if action == "ListCommandInvocations":
            command = self.commands[given["CommandId"]]
            return {"CommandInvocations": [
                {"CommandId": command["id"], "InstanceId": instance, "Status": state["Status"], "StatusDetails": state["Status"],
                 "CommandPlugins": [{"Name": "aws:runShellScript", "Output": state.get("Output", "")[:2500]}]}
                for instance, state in command["states"].items()]}
        raise KeyError(action)

    def run(self, command, instance):
        os.makedirs(self.root(instance), exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "AWS_SSM_INSTANCE_ID": instance, "AWS_SSM_REGION_NAME": "eu-central-1",
                       "DROVER_ROOT": self.root(instance)}
        script = os.path.join(self.root(instance), "_script.%s.sh" % command["id"])
        with open(script, "w") as file:
            file.write("\n".join(command["Parameters"]["commands"]))
        child = subprocess.Popen(["sh", script], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, start_new_session=True)
        output = bytearray()
        reader = threading.Thread(target=lambda: [output.extend(part) for part in iter(lambda: child.stdout.read1(65536), b"")])
        reader.start()
        stream = "%s/%s/aws-runShellScript/stdout" % (command["id"], instance)
        group, sent = command["CloudWatchOutputConfig"]["CloudWatchLogGroupName"], 0
        while True:
            over = not reader.is_alive()
            end = len(output) if over else output.rfind(b"\n") + 1
            if end > sent:
                if not sent:
                    self.aws["logs"].create_log_stream(logGroupName=group, logStreamName=stream)
                event = {"timestamp": int(time.time() * 1000), "message": bytes(output[sent:end]).decode(errors="replace")}
                self.aws["logs"].put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
                sent = end
            if over:
                break
            reader.join(1)
        status = "Success" if child.wait() == 0 else "Failed"
        child.stdout.close()
        command["states"][instance] = {"Status": status, "Output": output.decode(errors="replace")}


class Front:
    """An HTTP server on loopback before moto's."""

    def __init__(self, moto, agent, aws):
        self.moto, self.agent, self.aws = urllib.parse.urlsplit(moto), agent, aws
        self.passed = collections.Counter()
        self.done_here = collections.Counter()
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                front.handle(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        for thread in self.agent.threads:
            thread.join(60)

    def handle(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        target = request.headers.get("X-Amz-Target", "")
        if target.startswith("AmazonSSM."):
            action = target.split(".")[1]
            self.done_here[action] += 1
            return self.reply(request, 200, "application/x-amz-json-1.1", json.dumps(self.agent.answer(action, json.loads(body))).encode())
        form = {} if target else dict(urllib.parse.parse_qsl(body.decode()))
        action = target.split(".")[1] if target else form["Action"]
        if action == "DescribeInstanceRefreshes":
            self.done_here[action] += 1
            return self.reply(request, 200, "text/xml", (EMPTY % uuid.uuid4()).encode())
        self.passed[action] += 1
        connection = http.client.HTTPConnection(self.moto.hostname, self.moto.port, timeout=30)
        connection.request("POST", request.path, body, {k: v for k, v in request.headers.items() if k.lower() != "connection"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if action in ("EnterStandby", "ExitStandby") and answer.status == 200:
            self.balance(action, form)
        self.reply(request, answer.status, answer.headers.get("Content-Type", "text/xml"), text)

    def balance(self, action, form):
        instances = [value for key, value in form.items() if key.startswith("InstanceIds.member.")]
        groups = self.aws["autoscaling"].describe_auto_scaling_groups(AutoScalingGroupNames=[form["AutoScalingGroupName"]])
        call = self.aws["elbv2"].deregister_targets if action == "EnterStandby" else self.aws["elbv2"].register_targets
        for arn in groups["AutoScalingGroups"][0]["TargetGroupARNs"]:
            call(TargetGroupArn=arn, Targets=[{"Id": instance, "Port": 80} for instance in instances])

    def reply(self, request, status, kind, body):
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

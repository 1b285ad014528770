# Names that the standard library draws: files, boundaries, message ids.
import email.utils
import random
import tempfile
import uuid
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText


async def handler(input, ctx):
    mail = MIMEMultipart()
    mail.attach(MIMEText("x"))
    names = tempfile._get_candidate_names()
    await ctx.sleep(1)
    return [next(names), next(names), mail.as_string(), email.utils.make_msgid(domain="x.test"), str(uuid.uuid4()), [str(uuid.uuid1()) for _ in range(3)],
            uuid.getnode(), random.getstate()[1][:3], random.Random(5).random(), random.choices("abc", k=5), email.utils.formatdate(localtime=True)]

# What the machine and the process say of themselves.
import gc
import os
import sys


async def handler(input, ctx):
    await ctx.sleep(1)
    return [os.cpu_count(), gc.isenabled(), gc.get_threshold(), sys.getrecursionlimit(), sys.flags.hash_randomization, sys.hash_info.width, os.getloadavg(), sys.getswitchinterval(),
            sys.float_repr_style, sys.getdefaultencoding(), sys.getfilesystemencoding(), str(sys.stdout.encoding), sys.byteorder, list(sys.version_info[:2])]

"""Are synthetic cells new, or do they give training people's cells away?"""

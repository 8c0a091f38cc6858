"""The words that the reader of ratings knows, as patterns for a text in lower case (`notation.normalise`)."""


def _any(*words: str) -> str:
    """A pattern of any of the words, which white space keeps apart. `_` in a word: spaces or a hyphen."""
    found = sorted({word for line in words for word in line.split()}, key=len, reverse=True)
    return "|".join(word.replace("_", "[ _-]+") for word in found)


def _whole(*words: str, unspaced: str = "") -> str:
    """The same, with no letter beside them; `unspaced`: words of languages without spaces, which may have."""
    rest = f"|{_any(unspaced)}" if unspaced else ""
    return rf"(?:(?<![^\W\d_])(?:{_any(*words)})(?![^\W\d_]){rest})"


# What a rating is called. German writes in one word what others write in two.
RATING = _whole(
    "(?:final|overall)?(?:rating|score)s? rating(?:value|score)",
    "(?:gesamt|end)?(?:bewertung|wertung|punktzahl) einstufung évaluation notation appréciation",
    "calificaci[oó]n puntuaci[oó]n puntaje evaluaci[oó]n valoraci[oó]n valutazione punteggio",
    "avalia[cç][aã]o classifica[cç][aã]o pontua[cç][aã]o beoordeling waardering betyg bedömning omdöme",
    "bedømmelse vurdering arvosana pistemäärä ocena ocjena punktacja hodnocení hodnotenie értékelés",
    "pontszám osztályzat punctaj evaluare puan[ıi]?m? derecelendirme değerlendirme оценка рейтинг оцінка",
    "оцена βαθμολογία αξιολόγηση (?:ال)?(?:تقييم|درجة|تقدير) امتیاز نمره דירוג ציון रेटिंग अंक मूल्यांकन",
    "রেটিং মূল্যায়ন স্কোর மதிப்பீடு điểm(?:_số)? đánh_giá xếp_hạng peringkat penilaian skor",
    unspaced="评分 評分 评级 評級 打分 得分 分数 分數 评价 評價 評価 評点 評定 点数 採点 スコア レーティング"
    " 평점 점수 평가 등급 별점 레이팅 คะแนน เรตติ้ง",
)
# Words with other uses too ("Note: 5 pupils were absent"): they count at the end of an answer only.
WEAK = _whole(
    "answer result verdict conclusion overall grade mark points? level rate assessment evaluation judge?ment",
    "note gesamtnote endnote schulnote ergebnis antwort urteil gesamturteil résultat réponse nota notă",
    "resultado respuesta resposta resultaat antwoord cijfer voto risultato risposta známka karakter not",
    "nilai балл итог ответ jawaban đáp_án kết_quả उत्तर",
    unspaced="答案 回答 结果 結果 总评 總評 総合 답변 답",
)

# A mention with such a word is the one that is meant, where others differ ...
FINAL = _whole(
    "final overall revised corrected updated adjusted new concluding definitive endgültige?",
    "abschließende? finale? définitive? globale? générale? definitiv[ao] global general complessiv[ao] geral",
    "uiteindelijke eindelijke końcowa ostateczna итоговая окончательная общая nihai genel النهائية? अंतिम",
    "slutlig[at]? cuối_cùng (?:overall|final)(?:rating|score)s? (?:gesamt|end)\\w+",
    unspaced="最终 最終 总体 總體 综合 総合 最后 최종 종합",
)
# ... with such a word it is not ...
FIRST = _whole(
    "initial initially first preliminary provisional tentative draft previous prior earlier original old",
    "thought considered vorläufige? erste anfängliche ursprüngliche initiale provisoire préliminaire",
    "inicial preliminar iniziale provvisori[oa] voorlopige eerste wstępna předběžné предварительная",
    "первоначальная",
    unspaced="初步 初始 初期 暂定 暫定 초기 잠정",
)
FIRST_AFTER = _whole(
    "at_first initially to_start_with for_now tentatively zunächst anfangs d'abord"
)
# ... and with such a word it is something else than a rating by the one who answers.
OTHER = _whole(
    "confidence certainty max maximum min minimum highest lowest top possible average mean median typical",
    "expected peers? self human (?:expert|user|author|colleague|reviewer|parent|writer)s?(?:'s)? critics?",
    "others? public online konfidenz maximale? minimale? durchschnittliche? höchste niedrigste moyenne",
    "maximale promedio máxim[ao] media massimo",
)
# Directly before its name, these make it another one, too.
WANTED = (
    _whole(
        r"(?<!the\s)(?<!my\s)requested desired wanted hoped_for target threshold passing placeholder default",
        "supervisor's principal's inspector's coach's mentor's",
    )
    + r"[ *_\"]*$"
)
SAID_BY_OTHERS = (
    _whole(
        "you users? he she they people someone somebody others? critics? colleagues? parents? reviewers?",
        "experts? authors? writers? principal inspector teachers? students? pupils? class",
    )
    + r"[^.!?\n]{0,30}"
    + _whole(
        "gave gives? given said says? thinks? thought suggest\\w* believes? claim\\w* wants? wanted asks?",
        "asked expect\\w* propos\\w* hint\\w* told mention\\w* request\\w* hopes? feels? felt",
    )
    + r"(?:\W+(?:that|for|an?|the|it|this|me|to|give|deserves?|should|gets?|is|be|worth|of|would|you|he|she"
    r"|they|i|with|as|lesson|essay|text|write|say|answer|end)\b){0,8}\W*$"
)
# A "rating of 7" is that with which something is compared, or for which something is still wanted.
BESIDE = (
    _whole(
        "than above below beyond near nearer under over shy_of close_to closer_to needed_for required_for",
        "necessary_for",
    )
    + r"(?: an?| the)? *$"
)
FOR = r"^\W*for (?:an?|the) *$"
# What a "rating of 7" does, or what is said of it, where it is not given.
NOT_GIVEN_OF = (
    _whole(
        "cannot can't can_only won't must doesn't didn't demands calls_for takes_more",
        "(?:goes_to|describes)_(?:an?|lessons|essays|texts|those|work)",
        "lies_(?:beyond|outside|out) (?:can|may)_be_given_(?:only|if)",
        "(?:was|is|has_been|had_been|were)_(?:requested|expected|suggested|asked|hoped|wanted|proposed|desired)",
    )
    + "|"
    + _whole("is was seems feels looks sounds appears")
    + r" *(?:a bit |a little |rather |quite |very |somewhat |overly )?"
    + _whole(
        "generous harsh high low off wrong unfair excessive inflated undeserved unwarranted unjustified",
        "lenient kind strict severe steep optimistic pessimistic ambitious a_stretch out_of_reach beyond",
    )
)
# Behind a rating, in brackets: that it is none of one's own.
ASKED_FOR = (
    r"\((?:just |only |merely |an? )*(?:"
    + _whole(
        "requested suggested kidding joking",
        "your_(?:suggestion|request|hope|wish|rating|score|expectation)",
    )
    + "|"
    + _whole("example placeholder")
    + r" *\))"
)
# What adds nothing before "rating of 5".
ARTICLES = _whole("an? the my our this its with for so and final overall total solid")

# "I will not give", and the like.
NOT = _whole(
    "not \\w+n't never cannot no nor neither without refuse\\w* declin\\w+ unable instead rather isnt dont",
    "nicht kein\\w* niemals statt ne pas jamais aucune? sans sin nunca ningun\\w* nessun\\w* non senza",
    "não nem sem niet geen nie nooit нет не ни değil ikke inte لا ليس لن नहीं không hardly barely kaum",
    "scarcely (?:far|away)_from anything_but short_of wrong (?:dis)?agree(?:_with)? reject against oppose",
    "avoid deny dispute doubt nobody",
    unspaced="不给 不會 不会 无法 無法 不能 没有 不是 不打 できません ではな 없 않",
)
PERHAPS = _whole(
    "if unless perhaps maybe possibly suppose imagine hypothetical\\w* assuming provided",
    "(?:had|were|should)_(?:it|they|the|she|he|i) in_theory theoretically ideal(?:ly)? potential(?:ly)?",
    "falls wenn vielleicht möglicherweise si peut-être quizás? forse talvez misschien если возможно",
    unspaced="如果 可能 假如 もし 만약",
)
EXAMPLE = _whole(
    "e\\.g example instance such_as format template like beispiel\\w* exemple ejemplo esempio exemplo",
    "voorbeeld например",
    unspaced="例如 比如 例えば 예를 예:",
)
WOULD = _whole(
    "would could might may \\w+'d wäre würde könnte serait pourrait aurait sería podría sarebbe potrebbe",
    "seria poderia zou бы",
)
GIVE = _whole(
    "give gives giving gave assign award say call rate justify deserves? warrant support merit recommend",
    "choose put settle write assigned awarded decided? settled chosen chose go(?:ing)?",
    "earning geben gebe donne doy otorgo dou atribuo даю ставлю vergeben donner dar dare geef geven",
)
# "I am told to give a", "I hesitate to give a", "I almost gave a" (rating of 7)
UNWILLING = (
    r"\b(?:i|we)(?:'m|'d)?(?: (?:am|was|were|have|had|been|being|feel|felt|do|did|really|rather|quite|some"
    r"|very|a bit))* "
    + _whole(
        "hesitat\\w* reluctan\\w* tempted pressur\\w* wish wished wanted like supposed once",
        "told asked expected instructed urged invited almost nearly",
    )
    + r"(?:(?: by)?(?: an?| the)? *$|(?:\W+(?!and\b|but\b)\w+){0,3}?\W+"
    + GIVE
    + ")|"
    + _whole("last_year last_time")
)
SO = _whole(
    "so thus therefore hence accordingly consequently daher deshalb also donc por_lo_tanto quindi portanto",
    "dus поэтому and_i but_i and_we",
    unspaced="→ 所以 因此 よって 그래서 따라서",
)

# Before a number: what adds nothing, and what makes it no single one.
ABOUT = _whole(
    "an? the level about around approximately roughly approx\\.? ca\\.? circa exactly solid strong clear",
    "clearly firm etwa ungefähr rund genau eine? een environ une? unos aproximadamente ongeveer около",
    unspaced="约 約",
)
BOUND = _whole(
    "at_(?:least|most) up_to (?:more|less|fewer)_than above below over under between from almost nearly",
    "somewhere either anywhere minimum maximum min\\.? max\\.? mindestens höchstens über unter zwischen von",
    "fast entre au_moins au_plus presque al_menos como_máximo casi tra almeno tussen minstens hoogstens",
    "между от",
    unspaced="至少 最多 介于 大于 小于",
)
UNSURE = _whole(
    "maybe perhaps probably possibly likely (?:could|might|may|would)_be vielleicht wohl peut-être",
    "probablement quizás? tal_vez forse talvez misschien возможно",
    unspaced="可能 也许 たぶん 아마",
)
MINUS = _whole(
    "minus negative moins menos meno минус eksi سالب",
    unspaced="负 負 マイナス 마이너스",
)
NOT_GIVEN = _whole(
    "n\\s?/\\s?a na n\\.\\s?a\\.? k\\.\\s?a\\.? s/o none null nil nan unknown undefined undetermined unable",
    "not_(?:applicable|available|possible|given|rated|enough|sure) cannot can't refus\\w* declin\\w*",
    "no_rating i_(?:cannot|can't|will_not|won't|refuse|decline) unrated unratable tbd pending withheld",
    "nicht keine? aucune? ninguna? nessuna? nenhuma? geen нет",
    unspaced="無し 无 なし 없음",
)

# After a number: of how many, of what, ...
OUT_OF = (
    r"(?: *+\n?\s*+/|"
    + _whole(
        "out_of of on von sur de di su op van uit av af z ze из por sobre din trên dari من מתוך",
    )
    + r")(?: *(?:the|an?|scale of|possible|total|maximum|max\.?|insgesamt|maximal|of|de)\b)*"
)
UNIT = _whole(
    "points? pts?\\.? stars? punkten? punktów punkty pkt poäng puntos? punti pontos? punten sterren?",
    "sternen? étoiles? estrellas? stelle estrelas? puan балл(?:а|ов)? điểm अंक نقاط نقطة درجات คะแนน",
    "です だ で 입니다 이다 로",
    unspaced="[分点點星级級점별](?:です|だ|입니다|이다|임)? つ星 [颗顆]星",
)
PERCENT = _whole(
    "percent(?:age)? per_cent prozent pour_?cent por_?ciento per_?cento procent процент\\w*",
    unspaced="% パーセント 퍼센트",
)
# ... what brings another number, ...
ALTERNATIVE = _whole(
    "or to and through till until up_to but maybe perhaps possibly even almost nearly leaning towards?",
    "(?:bordering|verging)_on (?:could|might|may)_be rather actually then later now no bis oder und aber",
    "vielleicht eher ou et à a mais jusqu'à o y e ma forse en tot do lub albo i или и до veya ve ile va",
    "hoặc đến dan atau eller vagy nebo sau tai och og και ή أو إلى و या से और तक",
    unspaced="至 到 或 和 か から または や 또는 에서 와 과 이나 และ หรือ",
)
# ... and what makes it another one.
CHANGED = _whole(
    "changed rounded revised corrected lowered raised reduced downgraded upgraded updated adjusted",
    "gerundet geändert arrondie? corrigé corregido",
)
# Between an arrow and another number: that it is the rating instead; and at the end, that it is none.
RECONSIDERED = _whole(
    "after now revis\\w* reconsider\\w* reflection reflecting instead changed? actually",
    "nach nun jetzt stattdessen überdacht\\w* après maintenant finalement después ahora",
)
PLACE = _whole(
    "levels? grades? standards? turns? lines? pages? pp?\\. paragraphs? sections? chapters? rows? steps?",
    "criteri(?:on|a) points? questions? parts? items? examples? stufe niveau zeilen? seiten?",
)
MAGNITUDE = _whole(
    "hundred thousand million billion dozen seconds? minutes? hours? days? weeks? months? years? times",
    "pages? euros? dollars? degrees? percentile tausend millionen minuten mille",
    unspaced="[€£¥₹°º‰]",
)
REACHES_ON = _whole(
    "if unless once when assuming provided otherwise else at_(?:best|most|least|worst) plus minus",
    "wenn falls если (?:or|and)_(?:more|less|higher|lower|above|below|up) oder_mehr höchstens mindestens",
    "max(?:imum)? min(?:imum)?",
    unspaced="以上 以下 左右 未満 이상 이하 미만 半 반",
)
TOO = (
    _whole("is was would_be seems feels ist wäre est es è")
    + r"? *"
    + _whole("too never wrong zu trop demasiado")
    + "|"
    + _whole(
        "(?:is|was|would_be|seems|ist|wäre)_(?:not|nicht|for|reserved|given) est_pas isn't wasn't would",
        "could might requires? needs means implies indicates represents corresponds should stands_for if had",
    )
)
MEANS = (
    _whole("being means bedeutet heißt signifie significa")
    + r"|(?:is|ist|est)\s+(?!(?:my|our|what (?:i|we)|the (?:rating|score|answer|final|right|best|one)"
    r"|appropriate|fair|justified|warranted|deserved|reasonable|fitting|accurate|right)\b)"
)

SCALE = _whole("scale skala échelle escala scala schaal шкал\\w* rating_range score_range")
LEGEND = _whole(
    "scale skala échelle escala scala schaal шкал\\w* legend key legende légende leyenda",
    unspaced="量表 标准 尺度 척도",
)

# Says that there is no rating, whatever else is said.
REFUSES = (
    r"\bi (?:cannot|can't|can not|won't|will not|am (?:unable|not able|not going|not willing) to"
    r"|am not comfortable (?:with|to)|refuse to|(?:must )?decline to|(?:do not|don't) want to)"
    r" (?:(?:rate|score|grade)|(?:give|assign|provide|offer|make)(?:ing)?(?: you)? (?:an?|any|this|the)"
    r"(?: \w+){0,2} (?:rating|score|grade))\b"
    r"(?![^.!?\n]{0,40}\b(?:higher|lower|above|below|of|more|better|than|beyond|\d)\b)"
)
# Says that nothing asked for is done: where no rating is read, it is a refusal too.
DECLINES = (
    r"\b(?:i (?:cannot|can't|can not|won't|will not|must decline to|(?:am|will be) (?:unable|not able) to)"
    r"|i'm (?:unable|not able) to)"
    r" (?:assist|help|comply|fulfill?|participate|engage|continue|proceed|do (?:that|this|so|it)"
    r"|(?:rate|score|grade|evaluate|assess|judge)|(?:give|provide|offer) (?:an?|any|this|that))\b(?! but\b)"
)
# Behind such words: it does not rate by something. A rating that follows is one.
ON_A_BASIS = (
    r"[^.!?\n]{0,40}\b(?:based|basis|because|differently|reflects?|by (?:the|their|her|his|who)"
    r"|on (?:that|this|these|those|who|demographics?))\b"
)
# Takes back a rating given before, at the beginning of a clause or anywhere.
TAKEN_BACK = (
    r"(?:(?<=[.!?\n(;,–])|(?<=- )|^)[ \n*]{0,9}(?:"
    + _whole(
        "wait hold_on scratch_that strike_that correction korrektur corrección oops i_meant? never_?mind",
        "on_(?:second_thought|reflection) moment_mal make_(?:that|it)",
        "let_me_(?:reconsider|revise|redo|rethink|recalculate|reassess|correct|change|adjust|lower|raise)",
    )
    + r"|(?:edit|update):|(?:actually|no|sorry|nein|en fait|en realidad)\b(?=[^.!?\n]{0,40}\d))|"
    + _whole(
        "i_changed?_my_mind i_take_(?:that|it)_back i_made_a_mistake",
        "i(?:_would|'d|_will)?_now_(?:say|give|rate)",
        "i_(?:now_)?(?:revise|correct|reconsider|retract|withdraw|change)",
        "i_(?:would|should|will|must|have_to|need_to)_(?:revise|correct|reconsider|retract|withdraw|lower|raise)",
        unspaced="不对 等等 訂正 更正",
    )
    # I'd raise it to 6. Not: I adjust it to 6 if ...
    + r"|\bi(?:'d|'ll|'m| am| would| will| should)?(?: now| rather)?"
    r" (?:rais|lower|adjust|bump|increas|decreas|chang|revis|reduc)\w*"
    r" (?:it|this|that|(?:my|the) (?:rating|score))"
    r"\b[^.!?\n]{0,40}\bto (?:an? )?\d(?![^.!?\n]*\bif\b)"
    r"|\b(?:my|the) (?:rating|score) (?:increases|rises|decreases|drops|changes|goes (?:up|down))"
    r" to (?:an? )?\d"
)

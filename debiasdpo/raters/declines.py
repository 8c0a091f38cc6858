"""Sentences that say, in languages other than English, that nothing is rated or done, as patterns for a text
in lower case (`notation.normalise`).

They count where no rating is read (`words.DECLINES` has English). Each is of the first person, or follows an
apology, and is no quotation, since reviews tell what others cannot do. What is rated no higher or not badly,
or of what it is said that one cannot tell whether or how, is no refusal.
"""

_CLAUSE = r"[^.!?;:,\"\n]"
_SENTENCE = r"[^.!?\"\n]"
_GAP = r"(?:\w+[ ']){0,3}?"  # a few words
_BEGINS = r"(?<![\w\"])(?<!\" )"


def _in_order(cannot: str, rate: str, but: str, sorry: str, assist: str) -> str:
    """Of a language that says "I cannot" before what it cannot do. `but`: words of the clause behind it that
    make it no refusal; `assist`: what nothing is done of, behind an apology."""
    unless = rf"(?!{_CLAUSE}{{0,80}}(?<!\w)(?:{but}|\d))"
    return (
        rf"{_BEGINS}(?:{cannot}) {unless}{_GAP}(?:{rate})(?!\w)(?!, (?:{but})(?!\w))"
        rf"|{_BEGINS}(?:{sorry})(?!\w){_SENTENCE}{{0,40}}?(?<!\w)(?:{cannot}) {unless}{_GAP}"
        rf"(?:{assist})(?!\w)"
    )


def _around(i_can: str, no: str, rate: str, but: str, sorry: str, assist: str) -> str:
    """Of a language that says what it cannot do at the end: "ich kann das nicht bewerten"."""
    unless = rf"(?!{_CLAUSE}{{0,80}}(?<!\w)(?:{but}|\d)(?!\w))"
    cannot = rf"(?:{i_can})(?!\w){unless}{_CLAUSE}{{0,60}}?(?<!\w)(?:{no})(?!\w){_CLAUSE}{{0,50}}?(?<!\w)"
    return (
        rf"{_BEGINS}{cannot}(?:{rate})(?!\w)(?!, (?:{but})(?!\w))"
        rf"|{_BEGINS}(?:{sorry})(?!\w){_SENTENCE}{{0,40}}?(?<!\w){cannot}(?:{assist})(?!\w)"
        rf"|{_BEGINS}(?:{i_can})(?!\w){_CLAUSE}{{0,30}}?(?<!\w)(?:{sorry})(?!\w){_CLAUSE}{{0,20}}?(?<!\w)(?:{no})"
        rf"(?!\w){_CLAUSE}{{0,30}}?(?<!\w)(?:{assist})(?!\w)"
    )


_GERMAN = _around(
    r"(?:ich|wir) (?:kann|können|darf|werde|bin|möchte)|(?:kann|können|darf|werde|möchte) (?:ich|wir)",
    r"nicht|keine?[nr]?",
    r"bewerten|beurteilen|benoten|in der lage, [^.!?\n]{0,60}?zu (?:bewerten|beurteilen|benoten)"
    r"|(?:bewertung|beurteilung|einschätzung|note|punktzahl|wertung|punkte) (?:\w+ ){0,3}?"
    r"(?:abgeben|geben|vergeben|vornehmen|erstellen|durchführen)",
    r"umhin|ob|inwie\w+|wie|was|warum|welche\w*|höher\w*|besser\w*|schlechter\w*|niedriger\w*|anders|nur"
    r"|mehr|weniger|schlechte?[nrms]?|negativ\w*|niedrige?[nrms]?",
    r"es tut mir leid|tut mir leid|entschuldigung|leider|ich bedaure",
    r"helfen|weiterhelfen|behilflich sein|nachkommen|(?:anfrage|bitte|aufgabe) (?:erfüllen|bearbeiten)",
)
_DUTCH = _around(
    r"ik (?:kan|mag|zal|wil|ben)|(?:kan|mag|zal|wil) ik",
    r"niet|geen",
    r"beoordelen|in staat om [^.!?\n]{0,60}?te beoordelen"
    r"|(?:beoordeling|cijfer|score|waardering) (?:\w+ ){0,2}?(?:geven|toekennen)",
    r"anders|of|hoe|in hoeverre|hoger|lager|beter|slechter|meer|minder|alleen|slechte?|negatie(?:f|ve)"
    r"|laag|lage",
    r"sorry|het spijt me|helaas|excuses",
    r"helpen|van dienst zijn|voldoen",
)
_FRENCH = _in_order(
    r"(?:je|nous) (?:ne |n')(?:peux|pouvons|pourrai|suis|sommes|vais) (?:\w+ )?pas|il m'est impossible"
    r"|je refuse|je dois (?:refuser|décliner)",
    # "Noter" is to observe, too.
    r"évaluer|juger|noter (?:\w+[ ']){0,2}?(?:leçon|cours|texte|essai|copie|rédaction|travail|séance"
    r"|devoir|extrait|transcription|document|réponse|enseignante?|élève)"
    r"|(?:donner|attribuer|fournir) (?:\w+[ ']){0,3}?(?:note|évaluation|score)",
    r"m'empêcher|que|si|dans quelle|à quel|comment|plus|moins|mieux|meilleure?s?|seulement|négati\w+"
    r"|(?:mal|mauvaise?s?|bas|basses?)(?!\w)",
    r"désolée?|navrée?|malheureusement|je regrette|(?:je vous prie de m')?excuse[rz]?(?:-moi)?",
    r"(?:aider|assister)|répondre à (?:cette|votre)|donner suite|accéder à (?:cette|votre)",
)
_SPANISH = _in_order(
    r"no (?:puedo|podemos|podré|me es posible|soy capaz|estoy en condiciones)|me (?:es|resulta) imposible"
    r"|me niego a",
    r"(?:calificar|evaluar|puntuar|valorar)(?:l[oae]s?)?|(?:dar|asignar|otorgar|proporcionar|ofrecer)(?:le)?"
    r" (?:\w+ ){0,3}?(?:calificación|puntuación|puntaje|nota|evaluación|valoración)",
    r"evitar|dejar|sino|más|menos|mejor|peor|si|hasta qué|cómo|como|qué|solo|sólo|suficiente\w*|bastante"
    r"|negativ\w+|(?:mal|mal[oa]s?|bajas?|puntaje bajo)(?!\w)",
    r"lo siento|lo lamento|perdón|disculp[ae]|lamentablemente|desafortunadamente",
    r"ayudar(?:te|le|l[oae]s)?|cumplir|responder a esta|atender (?:esta|tu|su)",
)
_PORTUGUESE = _in_order(
    r"não (?:posso|podemos|poderei|consigo|me é possível|sou capaz|estou em condições)|(?:eu )?me recuso a"
    r"|recuso-me a",
    r"(?:avaliar|classificar|pontuar)|avaliá-l[oa]s?|(?:dar|atribuir|fornecer|oferecer) (?:\w+ ){0,3}?"
    r"(?:nota|classificação|pontuação|avaliação)",
    r"deixar|senão|mais|menos|melhor|pior|se|até que|como|em que|apenas|só|negativ\w+"
    r"|(?:mal|mau|má|ruim|ruins|baix[oa]s?)(?!\w)",
    r"desculpe|desculpa|lamento|sinto muito|infelizmente",
    r"(?:ajudar|ajudá-l[oa]s?)|cumprir|atender (?:a )?(?:esse|este|seu|ao)",
)
_ITALIAN = _in_order(
    r"non (?:posso|possiamo|potrò|sono in grado di|mi è possibile)|mi rifiuto di",
    r"(?:valutar|giudicar)(?:e|l[oaie])|(?:dare|assegnare|attribuire|fornire) (?:\w+[ ']){0,3}?"
    r"(?:voto|punteggio|valutazione|giudizio)",
    r"fare a meno|che|se|quanto|come|più|meno|meglio|peggio|migliore|peggiore|solo|soltanto|negativ\w+"
    r"|(?:male|cattiv[oaei]|brutt[oaei]|bass[oaie])(?!\w)",
    r"mi dispiace|spiacente|mi scuso|purtroppo",
    r"aiutar(?:e|ti|la|vi)|soddisfare|rispondere a questa",
)
_POLISH = _in_order(
    r"nie (?:mogę|możemy|jestem w stanie|będę)|odmawiam",
    r"(?:ocenić|oceniać|oceny|oceniania)|(?:wystawić|podać|przyznać) (?:\w+ ){0,2}?(?:oceny|punktów)",
    r"nie|czy|jak|na ile|wyżej|niżej|lepiej|gorzej|więcej|mniej|tylko",
    r"przepraszam|przykro mi|niestety",
    r"(?:pomóc|spełnić)",
)
_RUSSIAN = _in_order(
    r"не (?:могу|можем|смогу|буду|в состоянии|имею возможности)|отказываюсь",
    r"оцени(?:ть|вать)|(?:дать|поставить|выставить|присвоить) (?:\w+ ){0,3}?(?:оценку|балл|рейтинг)",
    r"не|насколько|ли|как|выше|ниже|лучше|хуже|больше|меньше|только|достаточно",
    r"извините|простите|к сожалению|сожалею|прошу прощения",
    r"(?:помочь|выполнить|ответить)",
)
_ARABIC = _in_order(
    r"لا (?:أستطيع|يمكنني|يمكننا)|لن (?:أستطيع|أتمكن من)|لست قادرا على|أرفض",
    r"(?:تقييم|التقييم)|(?:إعطاء|منح|تقديم) (?:\w+ ){0,2}?(?:تقييم|درجة)",
    r"إلا|أكثر|أعلى|أقل|أفضل|ما إذا|مدى|كيف|فقط",
    r"آسف|أعتذر|عذرا|عذراً|للأسف",
    r"(?:مساعدتك|المساعدة|تلبية)",
)
# Its verb says by itself that the first person cannot.
_TURKISH = (
    rf"{_BEGINS}(?:değerlendirem(?:em|iyorum)|puanlayam(?:am|ıyorum)|(?:puan|not) verem(?:em|iyorum))(?!\w)"
    rf"|{_BEGINS}(?:üzgünüm|maalesef|özür dilerim){_SENTENCE}{{0,60}}?yardımcı olam(?:am|ıyorum)(?!\w)"
)
_HINDI = (
    rf"{_BEGINS}(?:मैं|क्षमा करें){_CLAUSE}{{0,60}}?(?:मूल्यांकन|रेटिंग|अंक){_CLAUSE}{{0,12}}?नहीं (?:कर|दे) सकत"
    rf"|{_BEGINS}(?:क्षमा करें|माफ़ करें|खेद){_SENTENCE}{{0,60}}?(?:मदद|सहायता) नहीं कर सकत"
)
_SORRY_ZH = "抱歉|对不起|對不起|很?遗憾|很?遺憾|不好意思"
_CANNOT_ZH = (
    "(?:无法|無法|不能|不会|不會|不便|拒绝|拒絕)(?!不)"
    rf"(?!{_CLAUSE}{{0,20}}(?:更|再|高|低|多|满分|滿分|是否|如何|为何|只|\d))"
)
_CHINESE = (
    rf"(?<![\"「『])(?:(?:我|我们|我們){_CLAUSE}{{0,10}}?|(?:{_SORRY_ZH}){_SENTENCE}{{0,25}}?){_CANNOT_ZH}{_CLAUSE}{{0,16}}?"
    "(?:评分|評分|打分|评级|評級|评价|評價|评估|評估|评判|評判)"
    rf"|(?<![\"「『])(?:{_SORRY_ZH}){_SENTENCE}{{0,25}}?{_CANNOT_ZH}{_CLAUSE}{{0,12}}?"
    "(?:帮助|幫助|帮[你您]|幫[你您]|协助|協助|满足|滿足|提供|回答)"
)
_SORRY_JA = "申し訳|すみません|恐れ入りますが|残念ながら|ごめんなさい"
_NOT_JA = "(?:(?:でき|出来|付けられ|つけられ)(?:ません|ない)|(?:致し|いたし|でき|出来)かねます)"
_UNLESS_JA = rf"(?!{_SENTENCE}{{0,60}}(?:高く|低く|高い|低い|あまり|十分|かどうか|どの程度|より|もっと|以上))"
_JAPANESE = (
    rf"(?<![\"「『])(?:{_SORRY_JA}|私(?=[はに])|aiとして){_UNLESS_JA}{_SENTENCE}{{0,40}}?(?:評価|採点|評点|点数|スコア)"
    rf"{_CLAUSE}{{0,10}}?{_NOT_JA}"
    rf"|\A[\s*_#>]*(?:この|本){_UNLESS_JA}{_CLAUSE}{{0,20}}?を(?:評価|採点)(?:することは)?できません"
    rf"|(?<![\"「『])(?:{_SORRY_JA}){_SENTENCE}{{0,40}}?(?:お手伝い|協力|お応え|お答え|対応|支援|お力に)"
    rf"{_CLAUSE}{{0,10}}?{_NOT_JA}"
)
_UNLESS_KO = rf"(?!{_SENTENCE}{{0,60}}(?:높|낮|더 |여부|는지|않을 수 없))"
_KOREAN = (
    rf"(?<![\"「『])(?:죄송|미안|유감|저는|제가|ai로서){_UNLESS_KO}{_SENTENCE}{{0,40}}?(?:평가|채점|점수|평점|등급)"
    rf"{_CLAUSE}{{0,8}}?(?:할|드릴|매길|줄|부여할|제공할) 수(?:는|가)? 없"
    rf"|(?<![\"「『])(?:죄송|미안|유감){_SENTENCE}{{0,40}}?(?:도와|도움|답변|요청){_CLAUSE}{{0,10}}?"
    "수(?:는|가)? 없"
)

DECLINES = "|".join((
    _GERMAN, _DUTCH, _FRENCH, _SPANISH, _PORTUGUESE, _ITALIAN, _POLISH, _RUSSIAN, _ARABIC, _TURKISH, _HINDI,
    _CHINESE, _JAPANESE, _KOREAN,
))  # fmt: skip
